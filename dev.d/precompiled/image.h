// The image as a guest sees it.

#include "qcow2/guest_disk.h"
#include "qcow2/image.h"

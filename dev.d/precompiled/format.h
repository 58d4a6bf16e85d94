// Tables, and what is in them.

#include "cache/table_cache.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/format/units.h"

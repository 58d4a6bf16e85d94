// The rest of what most tests include.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

#include "gtest/gtest.h"

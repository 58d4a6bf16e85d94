#!/usr/bin/env python3
"""Prints headers with those of this project that they include in their places, each once.

usage: inline_headers.py HEADER...

A precompiled header says where each file is that it was made of; in Bazel's sandbox that is another
place for each action. What comes from here is in no file.
"""

import re
import sys

OWN_INCLUDE = re.compile(r'#include "((?:engine|cache|qcow2)/[^"]+)"')


def put(path, seen):
    if path in seen:
        return
    seen.add(path)
    print(f'#line 1 "{path}"')
    with open(path, encoding="utf-8") as header:
        for number, line in enumerate(header, 1):
            own = OWN_INCLUDE.match(line)
            if own:
                put(own[1], seen)
                print(f'#line {number + 1} "{path}"')
            else:
                sys.stdout.write(line)


seen = set()
for header in sys.argv[1:]:
    put(header, seen)

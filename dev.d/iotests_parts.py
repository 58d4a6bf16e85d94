"""QEMU's tests without some of their parts.

028-img is QEMU's test 028 without what needs a virtual machine, and, where that is said below,
without what cannot be the same here. Such tests are made beside QEMU's own, outside of the
repository, by leaving out parts of their script and of what it should print.
"""

import os
import re

SUFFIX = '-img'

# A part begins with what the first pattern matches and ends before the next match of the second.
PARTS = {
    '028': {
        'script': [(r'^echo\necho block-backup$', r"^echo\necho '=== Reading across")],
        'output': [(r'^\nblock-backup$', r'^\n=== Reading across')],
    },
    # Debian's wording of bad sizes, and no encryption.
    '049': {
        'script': [(r'^    test_qemu_img create -f \$IMGFMT "\$TEST_IMG" -- \$s$',
                    r'^    test_qemu_img create -f \$IMGFMT -o size='),
                   (r'^test_qemu_img create -f \$IMGFMT --object secret', r'^echo "== Check lazy')],
        'output': [(rf'^qemu-img create -f qcow2 TEST_DIR/t.qcow2 -- {size}$',
                    rf'^qemu-img create -f qcow2 -o size={size}')
                   for size in ('-1024', '-1k', '1kilobyte', 'foobar')]
                  + [(r'^qemu-img create -f qcow2 --object secret', r'^== Check lazy')],
    },
    # Here a repair goes through where QEMU stumbles over the corruption that it has come to repair.
    '060': {
        'script': [(r'^echo\necho "=== Testing dirty corrupt', r'^echo\necho "=== Writing to an unaligned'),
                   (r"^echo\necho '=== Discarding with an unaligned", r'^echo\necho "=== Discarding an out-of'),
                   (r'^echo\necho "=== Discarding a refblock covered', r'^# success, all done')],
        'output': [(r'^\n=== Testing dirty corrupt', r'^\n=== Writing to an unaligned'),
                   (r'^\n=== Discarding with an unaligned', r'^\n=== Discarding an out-of'),
                   (r'^\n=== Discarding a refblock covered', r'^\*\*\* done')],
    },
    # What a kill leaves with lazy refcounts, which are never wrong here; and an amend that is refused
    # has not changed the size before.
    '061': {
        'script': [(r'^echo\necho "=== Testing dirty version downgrade', r'^echo\necho "=== Testing version downgrade'),
                   (r'^\$QEMU_IMG amend -o "compat=0.10,size=32M" "\$TEST_IMG" &&$', r'^\$QEMU_IMG snapshot -a bar'),
                   (r'^echo\necho "=== Testing dirty lazy', r'^echo\necho "=== Testing backing file')],
        'output': [(r'^\n=== Testing dirty version downgrade', r'^\n=== Testing version downgrade'),
                   (r'^qemu-img: Internal snapshots prevent', r'^version +3\nsize +134217728'),
                   (r'^\n=== Testing dirty lazy', r'^\n=== Testing backing file')],
    },
    '065': {
        'script': [(r'^class TestQCow3NotLazyQMP', r'^TestImageInfoSpecific = None')],
        'cases': 6,
    },
    '102': {
        'script': [(r"^echo\necho '=== Testing map on an image file truncated", r'^# success'),
                   (r'^ +_cleanup_qemu$', r'^ +_cleanup_test_img$')],
        'output': [(r'^\n=== Testing map on an image file truncated', r'^\*\*\* done')],
    },
    '108': {
        'script': [(r'^# This test either needs sudo', r"^echo\necho '=== Repairing an image without"),
                   (r"^echo\necho '--- Rebuilding refcount structures on block", r'^# success')],
        'output': [(r'^\n--- Rebuilding refcount structures on block', r'^\*\*\* done')],
    },
    # A snapshot that could not be made leaks nothing.
    '112': {
        'script': 2 * [(r'^# The new L1 table could/should be leaked$', r'^echo$')]
                  + [(r'^# The new L1 table could/should be leaked; and', r'^echo$')],
        'output': [(r'^Leaked cluster 6 refcount=1 reference=0', r'^\n=== Snapshot limit on refcount_bits=2'),
                   (r'^Leaked cluster 7 refcount=1 reference=0', r'^\n=== Compressed clusters'),
                   (r'^Leaked cluster 5 refcount=18446744073709551615', r'^\n=== Amend from')],
    },
    '176': {
        'script': [(r' bitmap(?=; do$)', r'; do$')],
        'output': [(r'^\n=== Test pass bitmap', r'^\*\*\* done')],
    },
    # QEMU itself, and a raw data file that alone tells what is in it.
    '244': {
        'script': [(r'^echo\necho "=== Standalone image with external data file \(valid raw',
                    r'^echo\necho "=== bdrv_co_block_status'),
                   (r"^echo\necho '=== Preallocation with data-file-raw",
                    r"^echo\necho '--- Giving a backing file at runtime")],
        'output': [(r'^\n=== Standalone image with external data file \(valid raw',
                    r'^\n=== bdrv_co_block_status'),
                   (r'^\n=== Preallocation with data-file-raw',
                    r'^\n--- Giving a backing file at runtime')],
    },
    # A part of a compressed cluster becomes zero without the whole request written as data, and
    # clusters that are given up are not used again before the next flush.
    '271': {
        'script': [(r'^    echo\n    echo "### Writing zeroes 3', r'^done$'),
                   (r'^    echo\n    echo "### Zero \+ unmap 2', r'^done$')],
        'output': 2 * [(r'^\n### Writing zeroes 3',
                        r'^\n### (Writing zeroes 1: .*no\)|Zero \+ unmap 1)')]
                  + 2 * [(r'^\n### Zero \+ unmap 2', r'^\n### (Zero \+ unmap 1|Discarding clusters)')],
    },
    '298': {
        'script': [(r'^class TestPreallocateFilter', r'^class TestTruncate')],
        'cases': 10,
    },
}


def without(text, parts):
    for begin, end in parts:
        first = re.search(begin, text, re.MULTILINE)
        last = first and re.compile(end, re.MULTILINE).search(text, first.end())
        if not last:
            raise ValueError(f'the test has no part from {begin} to {end}')
        text = text[:first.start()] + text[last.start():]
    return text


def write(path, text, mode):
    # Others may be running it.
    scratch = path.with_name(f'{path.name}.{os.getpid()}')
    scratch.write_text(text)
    scratch.chmod(mode)
    scratch.rename(path)


def make(name, tests):
    """Makes the test of this name in the directory of QEMU's tests; of any other name, nothing."""
    original = name.removesuffix(SUFFIX)
    if original == name or original not in PARTS:
        return
    parts = PARTS[original]
    script = without((tests / original).read_text(), parts['script'])
    # It runs in the directory that it is in.
    script = script.replace('. ./common.rc', 'cd ..\n. ./common.rc', 1)
    if 'cases' in parts:
        output = '.' * parts['cases'] + '\n' + '-' * 70 + f'\nRan {parts["cases"]} tests\n\nOK\n'
    else:
        output = without((tests / f'{original}.out').read_text(), parts['output'])
        output = output.replace(f'created by {original}\n', f'created by {name}\n', 1)
    write(tests / 'tests' / name, script, 0o755)
    write(tests / 'tests' / f'{name}.out', output, 0o644)

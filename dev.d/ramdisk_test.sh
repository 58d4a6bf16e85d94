#!/bin/bash
# A command on a ramdisk finds a file system of that kind, its exit status is the ramdisk's, and
# however it ends nothing is left of it: no mount, no loop device.
set -uo pipefail

readonly RAMDISK=$TEST_SRCDIR/$TEST_WORKSPACE/dev.d/ramdisk
export RINGCOW_RAMDISK_MIB=384
failures=0

expect() {
  local what=$1
  shift
  "$@" && return
  echo "FAILED: $what"
  failures=$((failures + 1))
}

something_is_there() {
  grep -qsF "$PLACE" /proc/self/mounts /sys/block/loop*/loop/backing_file
}

# Waits a little for it.
nothing_is_left() {
  for _ in {1..50}; do
    something_is_there || return 0
    sleep 0.1
  done
  return 1
}

says() {
  local wanted=$1
  shift
  local output
  output=$("$@" 2>&1) && return 1
  [[ $output == "ramdisk: "*$wanted* ]]
}

expect "refuses what it cannot make" says "'btrfs'" "$RAMDISK" btrfs true
expect "refuses more memory than there is" \
  env RINGCOW_RAMDISK_MIB=99999999 bash -c "$(declare -f says); says memory \"$RAMDISK\" xfs true"

if ! output=$("$RAMDISK" ext4 true 2>&1); then
  # Some containers must not mount anything; they are to be told so.
  expect "says why it cannot: $output" grep -q '^ramdisk: ' <<<"$output"
  exit "$((failures > 0))"
fi
readonly PLACE=$("$RAMDISK" ext4 sh -c 'dirname "${1#--dir=}"' sh)

for kind in xfs ext4; do
  found=$("$RAMDISK" "$kind" sh -c 'awk -v d="${1#--dir=}" "\$2 == d {print \$3}" /proc/self/mounts' sh)
  expect "is $kind, not '$found'" test "$found" = "$kind"
  expect "nothing is left of $kind" nothing_is_left
done

"$RAMDISK" ext4 sh -c 'exit 7' sh
expect "has the command's exit status" test $? = 7

for signal in HUP TERM KILL; do
  "$RAMDISK" ext4 sh -c 'echo $$; exec sleep 60' sh >"$TEST_TMPDIR/pid" &
  for _ in {1..100}; do
    [[ -s $TEST_TMPDIR/pid ]] && break
    sleep 0.1
  done
  expect "there is something to take down" something_is_there
  expect "runs until SIG$signal" kill -s "$signal" "$(cat "$TEST_TMPDIR/pid")"
  wait $!
  : >"$TEST_TMPDIR/pid"
  expect "nothing is left after SIG$signal" nothing_is_left
done
exit "$((failures > 0))"

#!/bin/bash
# Completes command lines as bash would, with the program itself; and the man page names what there
# is.
set -u
here=${0%/*}
ringcow=$here/ringcow
source "$here/ringcow.bash" || exit 1
failures=0

# expect "WORDS OF A LINE" WORD...: each WORD is among what the last word can become.
expect() {
  read -r -a COMP_WORDS <<<"$1"
  [[ $1 == *' ' ]] && COMP_WORDS+=('')
  COMP_WORDS[0]=$ringcow
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _ringcow
  shift
  for wanted; do
    [[ " ${COMPREPLY[*]} " == *" $wanted "* ]] && continue
    echo "'${COMP_WORDS[*]}': no '$wanted' in '${COMPREPLY[*]}'"
    failures=1
  done
}

expect 'ringcow ' create convert rebase amend io --help
expect 'ringcow re' rebase resize
expect 'ringcow convert -' -O --target-format --bitmaps --salvage
expect 'ringcow convert --sk' --skip-broken-bitmaps
expect 'ringcow info -f ' qcow2 raw
expect 'ringcow commit -t wr' writeback writethrough
expect 'ringcow info --output ' json
expect 'ringcow check -r ' leaks all
expect 'ringcow resize --preallocation f' falloc full
expect 'ringcow create -o c' compat= cluster_size= compression_type=
expect 'ringcow create -o compat = 1.1,lazy' 1.1,lazy_refcounts=
expect 'ringcow create -o compat = 1.1,lazy_refcounts = on,da' on,data_file=
expect 'ringcow amend -o ' refcount_bits=

for command in $(_ringcow_commands "$ringcow"); do
  grep -q "^\.B $command\$" "$here/ringcow.1" && continue
  echo "ringcow.1 does not name '$command'"
  failures=1
done
exit $failures

# Completion of `ringcow` in bash, for ~/.bashrc or /usr/share/bash-completion/completions/ringcow.
# What there is to complete is what the program's own help says.

# The words that begin the lines of a help text: commands, or the long and short options.
_ringcow_commands() {
  "$1" --help 2>/dev/null | sed -n '/^Commands:/,$ s/^  \([a-z][a-z]*\)  .*/\1/p'
}
_ringcow_options() {
  "$1" "$2" --help 2>/dev/null |
    sed -n 's/^  \(-[^ ]*\), \(--[^ ]*\).*/\1 \2/p; s/^      *\(--[^ ]*\).*/\1/p'
}
# The names in a list NAME=VALUE,... for qcow2: behind what is there already.
_ringcow_format_options() {
  local begin='' command=create
  [[ $3 == *,* ]] && begin=${3%,*},
  [[ $2 == amend ]] && command=amend
  "$1" "$command" -f qcow2 -o help 2>/dev/null | sed -n "s|^  \([a-z_]*\)=<.*|$begin\1=|p"
}

_ringcow() {
  # Bash takes an '=' for a word of its own.
  local at=$COMP_CWORD
  while ((at > 3)) && [[ ${COMP_WORDS[at - 1]} == = ]]; do at=$((at - 2)); done
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[at - 1]}
  local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]}
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "$(_ringcow_commands "$program") --help --version" -- "$word")
    return
  fi
  case $previous in
    -f | -F | -O | --format | --*-format)
      mapfile -t COMPREPLY < <(compgen -W 'qcow2 raw' -- "$word") ;;
    -t | -T | --cache | --*-cache)
      mapfile -t COMPREPLY < <(
        compgen -W 'none writeback writethrough directsync unsafe' -- "$word") ;;
    --output) mapfile -t COMPREPLY < <(compgen -W 'human json' -- "$word") ;;
    --preallocation)
      mapfile -t COMPREPLY < <(compgen -W 'off metadata falloc full' -- "$word") ;;
    --repair) mapfile -t COMPREPLY < <(compgen -W 'leaks all' -- "$word") ;;
    *)
      if [[ "$command $previous" == 'check -r' ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'leaks all' -- "$word")
      elif [[ "$command $previous" =~ ^(create|convert|amend|measure)\ (-o|--options)$ ]]; then
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(
          compgen -W "$(_ringcow_format_options "$program" "$command" "$word")" -- "$word")
      elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(
          compgen -W "$(_ringcow_options "$program" "$command")" -- "$word")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
      fi ;;
  esac
}

complete -o filenames -F _ringcow ringcow

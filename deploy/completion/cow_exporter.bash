# shellcheck shell=bash
# Completes cow_exporter's flags. Reads them from the program's own --help, so they always match.

# _cow_exporter_flags [COMMAND]: prints the flags in --help, with a trailing = if they take a value. A line
# "--[no-]FLAG" stands for two flags.
_cow_exporter_flags() {
  "${COMP_WORDS[0]}" "$@" --help 2>/dev/null |
    sed -nE -e 's/^  --\[no-\]([a-z_.-]+)( .*)?$/--\1\n--no-\1/p' \
      -e 's/^  (-h,)?(--[a-z_.-]+)( [A-Z]+)?( .*)?$/\2\3/p' | sed 's/ .*/=/'
}

_cow_exporter() {
  local word=${COMP_WORDS[COMP_CWORD]} flag='' command='' index
  COMPREPLY=()

  # --flag=value and --flag value; bash splits words at = by default.
  if [[ $word == --*=* ]]; then
    flag=${word%%=*}
    word=${word#*=}
  elif [[ $word == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 1]}
    word=''
  elif ((COMP_CWORD >= 2)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $word != -* ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 1]}
  fi
  case $flag in
    --config.file | --web.config.file | --folded | --pprof)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      compopt -o filenames 2>/dev/null
      return
      ;;
    --path.procfs | --path.sysfs)
      mapfile -t COMPREPLY < <(compgen -d -- "$word")
      compopt -o filenames 2>/dev/null
      return
      ;;
    --sandbox)
      mapfile -t COMPREPLY < <(compgen -W 'auto off require' -- "$word")
      return
      ;;
    --stacks)
      mapfile -t COMPREPLY < <(compgen -W 'off fp dwarf' -- "$word")
      return
      ;;
    --log.level)
      mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$word")
      return
      ;;
    --log.format)
      mapfile -t COMPREPLY < <(compgen -W 'logfmt json' -- "$word")
      return
      ;;
  esac

  for ((index = 1; index < COMP_CWORD; ++index)); do
    if [[ ${COMP_WORDS[index]} == explain ]]; then command=explain; fi
  done
  if [[ $word == -* ]]; then
    # shellcheck disable=SC2086  # an empty command is none
    mapfile -t COMPREPLY < <(compgen -W "$(_cow_exporter_flags $command)" -- "$word")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
  elif [[ -n $command ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && printf '%s ' [0-9]*; cat [0-9]*/comm 2>/dev/null)" -- "$word")
  elif ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W explain -- "$word")
  fi
}

complete -F _cow_exporter cow_exporter

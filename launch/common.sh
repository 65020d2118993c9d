# shellcheck shell=bash
# What the scripts of this folder share: options, mistakes, and commands for --dry-run.
# They keep to what bash 3.2 has, for Macs.

dry_run='' run=''
words=()     # of the command line, options aside
pass_on=''   # whether options of others are among them
arguments=() # of hybrid-jax, behind --
exec 3>&1    # the screen, also inside of $(...)

# A mistake that the user can mend: one line, exit code 2.
die() {
  local line="$*"
  printf '%s: %s\n' "${0##*/}" "${line//$'\n'/ }" >&2
  exit 2
}

say() {
  [[ -n $dry_run ]] || printf '%s: %s\n' "${0##*/}" "$*" >&3
}

# need COMMAND WAY_OUT
need() {
  [[ -n $dry_run ]] || command -v "$1" >/dev/null || die "$1 is not installed: $2"
}

# Its arguments as one line that a shell reads as these arguments.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

# Runs a command, or shows it.
execute() {
  if [[ -n $dry_run ]]; then
    quoted "$@" >&3
    echo >&3
  else
    "$@"
  fi
}

# Shows the comment at the head of a script.
show_help() {
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit 0
}

# parse VALUES FLAGS ARGUMENT...
# Each option is a variable of its name: --dry-run sets dry_run to yes.
parse() {
  local values=" $1 " flags=" $2 dry-run " option
  shift 2
  while (($#)); do
    option=${1%%=*}
    option=${option#--}
    if [[ $1 == -- ]]; then
      shift
      arguments=("$@")
      return
    elif [[ $1 == -h || $1 == --help ]]; then
      show_help
    elif [[ ! $1 =~ ^--[a-z-]+(=|$) ]]; then
      other "$1"
    elif [[ $flags == *" $option "* && $1 != *=* ]]; then
      printf -v "${option//-/_}" yes
    elif [[ $values == *" $option "* ]]; then
      if [[ $1 != *=* && $# -gt 1 && $2 != -* ]]; then
        set -- "$1=$2" "${@:3}"
      fi
      [[ $1 == *=?* ]] || die "--$option needs a value: see --help"
      printf -v "${option//-/_}" %s "${1#*=}"
    else
      other "$1"
    fi
    shift
  done
}

# A word, or an option that is not ours.
other() {
  [[ $1 != -* || -n $pass_on ]] || die "unknown option $1: see --help"
  words+=("$1")
}

# A run's name is that of a folder.
check_run() {
  [[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    die "--run=$run is no name of a run: take letters, digits, dots, - and _"
}

# needs_arguments EXAMPLE...
needs_arguments() {
  ((${#arguments[@]})) || die "hybrid-jax's arguments are missing: add -- $*"
}

# Those of hybrid-jax: the workdir follows from the run's name.
check_arguments() {
  local argument
  for argument in ${arguments[@]+"${arguments[@]}"}; do
    [[ $argument != --workdir* && $argument != -workdir* ]] ||
      die "$argument: leave it out, the workdir is that of --run=$run"
  done
}

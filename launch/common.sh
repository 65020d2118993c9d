# shellcheck shell=bash
# Options, errors and --dry-run for the scripts of this folder. They need only bash 3.2,
# which Macs have.

dry_run='' run=''
words=()     # of the command line, without our options
pass_on=''   # whether options of other programs may be among them
arguments=() # of hybrid-jax, after --
exec 3>&1    # the screen, even inside $(...)

# Print an error that the user can fix in one line, and exit with 2.
die() {
  local line="$*"
  printf '%s: %s\n' "${0##*/}" "${line//$'\n'/ }" >&2
  exit 2
}

say() {
  [[ -n $dry_run ]] || printf '%s: %s\n' "${0##*/}" "$*" >&3
}

# Usage: need COMMAND HINT. Refuse to go on without a program.
need() {
  [[ -n $dry_run ]] || command -v "$1" >/dev/null || die "$1 is not installed: $2"
}

# Print the arguments as one line that a shell reads as these arguments.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

# Run a command; with --dry-run, show it.
execute() {
  if [[ -n $dry_run ]]; then
    quoted "$@" >&3
    echo >&3
  else
    "$@"
  fi
}

# Show the comment at the head of a script.
show_help() {
  sed -n '1d; /^#SBATCH/d; /^#/!q; s/^# \{0,1\}//p' "$0"
  exit 0
}

# Usage: parse VALUES FLAGS ARGUMENT...
# Set a variable for each option: --dry-run sets dry_run to yes.
parse() {
  local values=" $1 " flags=" $2 dry-run " given=" " option
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
      [[ $given != *" $option "* ]] || die "--$option is given twice: give it once"
      given+="$option "
      printf -v "${option//-/_}" %s "${1#*=}"
    else
      other "$1"
    fi
    shift
  done
}

# Add a word, or an option of another program.
other() {
  [[ $1 != -* || -n $pass_on ]] || die "unknown option $1: see --help"
  words+=("$1")
}

# The name of a run must be fit for a folder.
check_run() {
  [[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    die "--run=$run is not allowed: use letters, digits, dots, - and _"
}

# Usage: needs_arguments EXAMPLE...
needs_arguments() {
  ((${#arguments[@]})) || die "arguments of hybrid-jax are missing: add -- $*"
}

# Refuse --workdir, which follows from the name of the run.
check_arguments() {
  local argument
  for argument in ${arguments[@]+"${arguments[@]}"}; do
    [[ $argument != --workdir* && $argument != -workdir* ]] ||
      die "$argument is not allowed: leave it out, since --run=$run names the workdir"
  done
}

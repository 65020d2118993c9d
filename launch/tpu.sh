#!/usr/bin/env bash
# Train on a TPU VM, or on a pod of them, and resume after a preemption.
#
#   launch/tpu.sh babysit --spot --bucket=BUCKET -- --config=configs/cifar10.py
#
# Commands:
#   create    make a TPU VM now, or fail
#   queue     request one (a queued resource), and wait until it is ready
#   setup     copy what git tracks here to all workers, and install it there
#   run       start hybrid-jax on all workers and follow its log; it survives Ctrl-C
#   babysit   make the machine, set it up and run, until the run has ended; machine and run
#             survive Ctrl-C, and the same command finds them again
#   logs      follow the log of a worker
#   status    print the state of the machine and of the run
#   stop      let the run save its step and end; babysit would restart it
#   delete    delete the machine, after you have typed its name
#
# Options, with [defaults]:
#   --name=NAME        name of the machine [$TPU_NAME, or hybrid-jax]
#   --zone=ZONE        zone of Google Cloud [$TPU_ZONE, or gcloud's]
#   --project=PROJECT  project of Google Cloud [$TPU_PROJECT, or gcloud's]
#   --type=TYPE        type of accelerator [$TPU_TYPE, or v5litepod-8]
#   --version=VERSION  version of the TPU software [Google's for the type]
#   --bucket=BUCKET    bucket for workdirs, which outlive the machine; best in the region
#                      of the zone, with a hierarchical namespace [$TPU_BUCKET]
#   --run=RUN          name of the run, and of its workdir [the machine's name]
#   --spot             use a cheap machine that can be preempted
#   --queued           the machine comes from queue: for babysit, status and delete
#   --worker=N         number of the worker whose log is shown [0]
#   --poll=SECONDS     time between two checks [30]
#   --attempts=N       failures in a row that babysit accepts, without a new checkpoint or
#                      result in between [3]
#   --yes              delete without asking
#   --dry-run          show the commands, and run nothing
#   --help             show this text
#
# Options after -- are those of hybrid-jax, without --workdir: that is BUCKET/RUN, or
# without a bucket ~/hybrid_jax/workdirs/RUN. A pod of several hosts needs a bucket, and
# gcloud needs its key in the agent: ssh-add ~/.ssh/google_compute_engine
#
# Exit code of run, logs and babysit: that of the run, or 1 if it has none; 2 for an error
# that you can fix. The machine stays, and costs, until you delete it, with the same --name,
# --zone, --project and --queued:
#
#   launch/tpu.sh babysit --name=NAME --zone=ZONE ... -- ... &&
#     launch/tpu.sh delete --name=NAME --zone=ZONE --yes
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"
# shellcheck source=launch/babysit.sh
source "$here/babysit.sh"

name=${TPU_NAME:-hybrid-jax} zone=${TPU_ZONE:-} project=${TPU_PROJECT:-}
type=${TPU_TYPE:-v5litepod-8} version='' bucket=${TPU_BUCKET:-}
worker=0 poll=30 attempts=3 spot='' queued='' yes=''
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# https://cloud.google.com/tpu/docs/runtimes
version_of() {
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

check() {
  [[ $name =~ ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$ ]] ||
    die "--name=$name is no name of a machine: use small letters, digits and -"
  [[ $poll =~ ^[0-9]+$ ]] || die "--poll=$poll is no number: give seconds"
  [[ $worker =~ ^[0-9]+$ ]] || die "--worker=$worker is no number: give that of a worker"
  [[ $attempts =~ ^[0-9]+$ ]] || die "--attempts=$attempts is no number: give one"
  attempts=$((10#$attempts))
  run=${run:-$name}
  check_run
  check_bucket
  check_arguments
  version=${version:-$(version_of "$type")}
  need gcloud "install it from https://cloud.google.com/sdk/docs/install"
}

# Print an error that is not the user's, and exit with 1.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Reduce a bucket to its bare name, and check it.
check_bucket() {
  bucket=${bucket#gs://}
  bucket=${bucket%/}
  [[ $bucket =~ ^([a-z0-9][a-z0-9._-]+)?$ ]] ||
    die "--bucket=$bucket is no name of a bucket: give one, such as my-runs or gs://my-runs"
}

tpus() {
  execute gcloud compute tpus "$@" --quiet \
    ${zone:+"--zone=$zone"} ${project:+"--project=$project"}
}

# Usage: on WORKER LINE. Run a line in the shell of a worker. Without a limit, ssh would
# wait forever for a machine that is gone.
on() {
  tpus tpu-vm ssh "$name" "--worker=$1" "--command=$2" \
    --ssh-flag=-oServerAliveInterval=15 --ssh-flag=-oServerAliveCountMax=4
}

# Usage: on_worker WORKER BARE COMMAND [ARG ...]. Run a command of worker.sh, or the line
# BARE on workers without setup.
on_worker() {
  on "$1" "if [ ! -e hybrid_jax/ready ]; then $2; \
else bash hybrid_jax/source/launch/worker.sh $(quoted "$3" "$run" "${@:4}"); fi"
}

# Usage: hint COMMAND. Print a command of this script for the same machine and run.
hint() {
  local line=("$0" "$1")
  [[ $name == hybrid-jax && -z ${TPU_NAME:-} ]] || line+=("--name=$name")
  line+=(${zone:+"--zone=$zone"} ${project:+"--project=$project"})
  case $1 in
    status | delete) line+=(${queued:+--queued}) ;;
  esac
  case $1 in
    status | logs | stop) [[ $run == "$name" ]] || line+=("--run=$run") ;;
  esac
  quoted "${line[@]}"
}

# Print what a worker without setup runs instead of worker.sh.
refuse() {
  local why
  why="nothing is installed here: run $(hint setup) first"
  echo "echo $(quoted "$why") >&2; exit 2"
}

# --- the machine

create() {
  tpus tpu-vm create "$name" "--accelerator-type=$type" "--version=$version" \
    ${spot:+--spot}
}

request() {
  tpus queued-resources create "$name" "--node-id=$name" "--accelerator-type=$type" \
    "--runtime-version=$version" ${spot:+--spot}
}

# Request a machine and wait for it. Another call continues to wait.
queue() {
  queued=yes
  [[ -z $dry_run ]] || request
  while look_at_machine; do
    case $left-$(meaning "$state") in
      *-ready) return ;;
      GONE-*) request ;;
      *-lost | *-failed) fail "$name is $state: see $(hint status), then $(hint delete)" ;;
    esac
    sleep "$poll"
  done
}

# Reduce a state of a VM or of a queued resource to ready, lost, failed or wait.
meaning() {
  case $1 in
    READY | ACTIVE) echo ready ;;
    PREEMPTED | TERMINATED | STOPPED | UNKNOWN | SUSPENDED | GONE) echo lost ;;
    FAILED) echo failed ;;
    *) echo wait ;; # it is being made, or gcloud cannot be reached
  esac
}

# Usage: ask KIND FIELD. Print the state of the machine, GONE or UNREACHABLE.
ask() {
  local answer
  if answer=$(tpus "$1" describe "$name" "--format=value($2)" 2>"$scratch/errors"); then
    echo "${answer:-READY}"
  elif grep -q NOT_FOUND "$scratch/errors"; then
    echo GONE
  else
    echo UNREACHABLE
  fi
}

# Print the one line of gcloud's message that names the error.
complaint() {
  grep -m 1 ERROR "$scratch/errors" || tail -n 1 "$scratch/errors"
}

state='' # of the machine
left=''  # state of what there is to delete

look_at_machine() {
  local before=$state
  if [[ -n $queued ]]; then
    state=$(ask queued-resources state.state)
    left=$state
    # A queued resource may still be active when its VM is gone.
    [[ $(meaning "$state") != ready ]] || state=$(ask tpu-vm state)
  else
    state=$(ask tpu-vm state)
    left=$state
  fi
  # Without an account or a project, asking again is useless.
  [[ $state != UNREACHABLE || -n $before ]] ||
    fail "gcloud does not answer: $(complaint)"
  [[ $state == "$before" ]] || say "$name is $state"
}

delete() {
  if [[ -n $queued ]]; then
    tpus queued-resources delete "$name" --force
  else
    tpus tpu-vm delete "$name"
  fi
}

# A machine from queue would leave its request behind, which blocks the name.
find_request() {
  if [[ -z $queued && -n $(tpus tpu-vm describe "$name" \
    "--format=value(queuedResource)" 2>/dev/null || true) ]]; then
    queued=yes
    say "$name comes from queue: its request is deleted, too"
  fi
}

confirm() {
  local answer=''
  [[ -z $yes && -z $dry_run ]] || return 0
  read -r -p "Type $name to delete the machine${queued:+, its request} and its disk: " \
    answer || true
  [[ $answer == "$name" ]] || die "nothing was deleted: type $name to confirm"
}

# --- the run

setup() {
  local archive=$scratch/hybrid_jax.tar.gz tree
  [[ -e $here/../.git ]] || die "$here is in no git clone: setup copies the files of one"
  # `git stash create` commits the tracked files as they are, on no branch. The steps are
  # joined by &&, because set -e has no effect where babysit calls this.
  tree=$(execute git -C "$here/.." stash create) &&
    execute git -C "$here/.." archive --format=tar.gz "--output=$archive" \
      "${tree:-HEAD}" &&
    tpus tpu-vm scp "$archive" "$name:hybrid_jax.tar.gz" --worker=all &&
    on all "rm -rf hybrid_jax/new && mkdir -p hybrid_jax/new \
&& tar -xzf hybrid_jax.tar.gz -C hybrid_jax/new \
&& bash hybrid_jax/new/launch/worker.sh setup $(quoted "$run" "$bucket")"
}

start() {
  on_worker all "$(refuse)" start "$bucket" "${arguments[@]}"
}

# Follow a log. The run continues if the connection breaks.
follow() {
  local code=0
  trap 'echo; say "the run continues: see $(hint logs), or end it with $(hint stop)"
    exit 130' INT
  on_worker "$1" "$(refuse)" follow || code=$?
  ((code != 255)) || fail "the connection broke and the run continues: see $(hint logs)"
  exit "$code"
}

# Print the state of the run on each worker.
ask_workers() {
  on_worker all "echo hybrid_jax bare" state
}

how='' code='' saved='' results=0 newest=none

# Set how, code and what is saved of the run, combined over all workers (workers.awk).
look_at_run() {
  local before=$how lines
  if lines=$(ask_workers 2>"$scratch/errors"); then
    read -r how code saved results newest < <(awk -f "$here/workers.awk" <<<"$lines")
  else
    how=unreachable
    [[ $how == "$before" ]] ||
      say "no answer from the workers, asking again ($(complaint))"
  fi
}

status() {
  look_at_machine
  [[ $(meaning "$state") != ready ]] || ask_workers
}

parse "name zone project type version bucket run worker poll attempts" \
  "spot queued yes" "$@"
check
((${#words[@]} == 1)) || die "give one command, such as create or babysit: see --help"
case ${words[0]} in
  create | queue | setup | status) "${words[0]}" ;;
  run) needs_arguments --config=FILE && start && follow 0 ;;
  babysit) needs_arguments --config=FILE && babysit ;;
  logs) follow "$worker" ;;
  stop) on_worker all "$(refuse)" stop ;;
  delete) find_request && confirm && delete ;;
  *) die "${words[0]} is no command: see --help" ;;
esac

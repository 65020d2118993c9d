#!/usr/bin/env bash
# Trains on a TPU VM, or on a pod of them, and goes on when it has been preempted.
#
#   launch/tpu.sh babysit --spot --bucket=BUCKET -- --config=configs/cifar10.py
#
# Commands:
#   create    makes a TPU VM, at once or not at all
#   queue     asks for one, and waits until there is one (a queued resource)
#   setup     copies what git tracks here to all workers, and installs it there
#   run       starts hybrid-jax on all workers and follows its log; Ctrl-C leaves it alone
#   babysit   all of this, again and again until the run has ended; Ctrl-C leaves machine
#             and run alone, and the same command resumes with them
#   logs      follows the log of a worker
#   status    of the machine and of the run
#   stop      has the run save its step and end; babysit would start it again
#   delete    deletes the machine, once you have typed its name
#
# Options, with [defaults]:
#   --name=NAME        of the machine [$TPU_NAME, or hybrid-jax]
#   --zone=ZONE        [$TPU_ZONE, or gcloud's]
#   --project=PROJECT  [$TPU_PROJECT, or gcloud's]
#   --type=TYPE        of the accelerator [$TPU_TYPE, or v5litepod-8]
#   --version=VERSION  of the TPU's software [what Google names for the type]
#   --bucket=BUCKET    where workdirs outlive the machine; its region should be the
#                      zone's, with a hierarchical namespace [$TPU_BUCKET]
#   --run=RUN          name of the run, and of its workdir [the machine's name]
#   --spot             takes a machine that is cheap and can be preempted
#   --queued           the machine comes from queue: for babysit, status and delete
#   --worker=N         whose log is shown [0]
#   --poll=SECONDS     between two looks [30]
#   --attempts=N       failures in a row, without a step saved, that babysit bears [3]
#   --yes              deletes without asking
#   --dry-run          shows the commands and runs none
#   --help
#
# What follows -- is hybrid-jax's, but for --workdir: it is BUCKET/RUN, or on a machine
# without a bucket ~/hybrid_jax/workdirs/RUN. A pod of several hosts needs a bucket, and
# gcloud needs its key in the agent then: ssh-add ~/.ssh/google_compute_engine
#
# run, logs and babysit end with the run's exit code, or with 1 where there is none. The
# machine stays, and costs, until you delete it:
#
#   launch/tpu.sh babysit ... -- ... && launch/tpu.sh delete --yes
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"

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
    die "--name=$name is no name of a machine: take small letters, digits and -"
  [[ $poll =~ ^[0-9]+$ ]] || die "--poll=$poll is no number of seconds"
  [[ $worker =~ ^[0-9]+$ ]] || die "--worker=$worker is no number of a worker"
  [[ $attempts =~ ^[0-9]+$ ]] || die "--attempts=$attempts is no number"
  run=${run:-$name}
  check_run
  check_bucket
  check_arguments
  version=${version:-$(version_of "$type")}
  need gcloud "see https://cloud.google.com/sdk/docs/install"
}

# Something that is nobody's mistake.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# By its bare name.
check_bucket() {
  bucket=${bucket#gs://}
  bucket=${bucket%/}
  [[ $bucket =~ ^([a-z0-9][a-z0-9._-]+)?$ ]] ||
    die "--bucket=$bucket is no name of a bucket, such as my-runs or gs://my-runs"
}

tpus() {
  execute gcloud compute tpus "$@" --quiet \
    ${zone:+"--zone=$zone"} ${project:+"--project=$project"}
}

# on WORKER LINE: has a worker's shell run a line. Where the machine is gone meanwhile,
# ssh would wait for ever.
on() {
  tpus tpu-vm ssh "$name" "--worker=$1" "--command=$2" \
    --ssh-flag=-oServerAliveInterval=15 --ssh-flag=-oServerAliveCountMax=4
}

# on_worker WORKER BARE COMMAND [ARG ...]: of worker.sh, or the line BARE where there was
# no setup.
on_worker() {
  on "$1" "if [ ! -e hybrid_jax/ready ]; then $2; \
else bash hybrid_jax/source/launch/worker.sh $(quoted "$3" "$run" "${@:4}"); fi"
}

refuse="echo 'nothing is installed here: launch/tpu.sh setup first' >&2; exit 2"

# --- the machine

create() {
  tpus tpu-vm create "$name" "--accelerator-type=$type" "--version=$version" \
    ${spot:+--spot}
}

request() {
  tpus queued-resources create "$name" "--node-id=$name" "--accelerator-type=$type" \
    "--runtime-version=$version" ${spot:+--spot}
}

# Called again, it goes on waiting.
queue() {
  queued=yes
  [[ -z $dry_run ]] || request
  while look_at_machine; do
    case $left-$(meaning "$state") in
      *-ready) return ;;
      GONE-*) request ;;
      *-lost | *-failed) fail "$name is $state: see $0 status, then $0 delete" ;;
    esac
    sleep "$poll"
  done
}

# What a state of a VM or of a queued resource means here, a row each.
meaning() {
  case $1 in
    READY | ACTIVE) echo ready ;;
    PREEMPTED | TERMINATED | STOPPED | UNKNOWN | SUSPENDED | GONE) echo lost ;;
    FAILED) echo failed ;;
    *) echo wait ;; # it is on its way, or gcloud cannot be reached
  esac
}

# ask KIND FIELD: its state, GONE, or UNREACHABLE.
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

# What gcloud said, which is several lines long.
complaint() {
  grep -m 1 ERROR "$scratch/errors" || tail -n 1 "$scratch/errors"
}

state='' # of the machine
left=''  # of what there is to delete

look_at_machine() {
  local before=$state
  if [[ -n $queued ]]; then
    state=$(ask queued-resources state.state)
    left=$state
    # Its VM may be gone before it knows.
    [[ $(meaning "$state") != ready ]] || state=$(ask tpu-vm state)
  else
    state=$(ask tpu-vm state)
    left=$state
  fi
  # Without an account or a project there is no sense in asking on.
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

confirm() {
  local answer=''
  [[ -z $yes && -z $dry_run ]] || return 0
  read -r -p "Type $name to delete it, with what is on its disk: " answer || true
  [[ $answer == "$name" ]] || die "nothing is deleted: that was not $name"
}

# --- the run

setup() {
  local archive=$scratch/hybrid_jax.tar.gz tree
  # A commit of what is tracked as it is now, which nothing refers to.
  [[ -e $here/../.git ]] || die "$here is in no clone of git, whose files setup copies"
  # Each waits for success itself, since babysit calls it where set -e means nothing.
  tree=$(execute git -C "$here/.." stash create) &&
    execute git -C "$here/.." archive --format=tar.gz "--output=$archive" \
      "${tree:-HEAD}" &&
    tpus tpu-vm scp "$archive" "$name:hybrid_jax.tar.gz" --worker=all &&
    on all "rm -rf hybrid_jax/new && mkdir -p hybrid_jax/new \
&& tar -xzf hybrid_jax.tar.gz -C hybrid_jax/new \
&& bash hybrid_jax/new/launch/worker.sh setup $(quoted "$run" "$bucket")"
}

start() {
  on_worker all "$refuse" start "$bucket" "${arguments[@]}"
}

# Follows a log; the connection may break, and the run goes on.
follow() {
  local code=0
  trap 'echo; say "the run goes on: see $0 logs, or end it with $0 stop"; exit 130' INT
  on_worker "$1" "$refuse" follow || code=$?
  ((code != 255)) || fail "the connection broke; the run goes on: see $0 logs"
  exit "$code"
}

# Prints how each worker is.
ask_workers() {
  on_worker all "echo hybrid_jax bare" state
}

how='' code='' step=-1

# Sets how, code and step of the run on all workers together.
look_at_run() {
  local before=$how lines
  if lines=$(ask_workers 2>"$scratch/errors"); then
    read -r how code step < <(awk -f "$here/workers.awk" <<<"$lines")
  else
    how=unreachable
    [[ $how == "$before" ]] ||
      say "no answer from the workers, asking on ($(complaint))"
  fi
}

status() {
  look_at_machine
  [[ $(meaning "$state") != ready ]] || ask_workers
}

# --- babysit

begun='' newest=-1 fruitless=0 halves=0

babysit() {
  [[ -n $bucket ]] ||
    die "babysit needs --bucket=BUCKET: on a machine that is preempted, all that was" \
      "trained is lost with its disk"
  if [[ -n $dry_run ]]; then
    dry_babysit
    return
  fi
  while :; do
    look_at_machine
    case $(meaning "$state") in
      ready) tend ;;
      lost) renew ;;
      failed) fail "$name is $state: see $0 status, then $0 delete" ;;
    esac
    sleep "$poll"
  done
}

dry_babysit() {
  look_at_machine
  make
  setup
  start
  look_at_run
}

make() {
  if [[ -n $queued ]]; then request; else create; fi
}

# Another machine in the place of one that is lost.
renew() {
  [[ $left == GONE ]] || delete || { bear "$name cannot be deleted" && return; }
  if make 2>"$scratch/errors"; then
    return
  fi
  cat "$scratch/errors" >&2
  # Without any free machine, waiting is all that helps.
  if grep -qiE 'capacity|RESOURCE_EXHAUSTED|stockout' "$scratch/errors"; then
    say "there is no machine free: trying on"
  else
    bear "$name cannot be created"
  fi
}

# The run on a machine that is ready.
tend() {
  look_at_run
  progress
  case $how in
    bare) { setup && start && begun=yes; } || bear "setup did not succeed" ;;
    absent) { start && begun=yes; } || bear "the run cannot be started" ;;
    alive) begun=yes halves=0 ;;
    some) reunite ;;
    ended) judge ;;
  esac
}

progress() {
  if ((step > newest)); then
    newest=$step fruitless=0
    say "step $step is saved"
  fi
}

# Others wait in vain for a worker that has ended. They may be saving, so not at once.
reunite() {
  halves=$((halves + 1))
  if ((halves > 3)); then
    on_worker all "$refuse" stop || true
  fi
}

# What to do about a run that has ended, a row for each exit code. One that ended before
# our time may get another command now.
judge() {
  case ${begun:-before}-$code in
    before-*) { start && begun=yes; } || bear "the run cannot be started" ;;
    yes-0)
      say "$run is complete; $name stays, and costs, until $0 delete"
      exit 0
      ;;
    yes-[23])
      show_end || true
      exit "$code"
      ;;
    *)
      bear "$run has ended with exit code $code"
      start || true
      ;;
  esac
}

# Says what went wrong, and gives up when that was once too often.
bear() {
  fruitless=$((fruitless + 1))
  say "$1"
  if ((fruitless > attempts)); then
    show_end || true
    fail "$1, $fruitless times without a step saved in between: given up"
  fi
}

show_end() {
  on "$worker" "tail -n 50 hybrid_jax/runs/$(quoted "$run")/log"
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
  stop) on_worker all "$refuse" stop ;;
  delete) confirm && delete ;;
  *) die "${words[0]} is no command: see --help" ;;
esac

#!/usr/bin/env bash
# Control a run on one worker of a TPU VM. tpu.sh copies this script there and calls it.
#
#   worker.sh setup RUN BUCKET           install ~/hybrid_jax/new
#   worker.sh start RUN BUCKET [ARG ...] start hybrid-jax, unless the run is alive
#   worker.sh agree RUN BUCKET [ARG ...] refuse a live run of another workdir or command
#   worker.sh state RUN                  print the state of the run in one line
#   worker.sh follow RUN                 show the log until the run ends; return its code
#   worker.sh stop RUN                   let the run save its step, and wait for its end
set -euo pipefail

home=$HOME/hybrid_jax
command=$1 run=$2
folder=$home/runs/$run # log, pid, exit code and lock of the run on this worker
PATH=$HOME/.local/bin:$PATH

die() {
  echo "worker.sh: $*" >&2
  exit 2
}

# Mount a bucket, without root: gcsfuse mounts for its own user.
mount_bucket() {
  local bucket=$1 mounted
  [[ -n $bucket ]] || return 0
  if mounted=$(findmnt --noheadings --output SOURCE --mountpoint "$home/bucket"); then
    [[ $mounted == "$bucket" ]] ||
      die "$home/bucket is the bucket $mounted, not $bucket: run fusermount -u $home/bucket"
    stat "$home/bucket" >/dev/null 2>&1 && return
    fusermount -uz "$home/bucket" # whose gcsfuse has died
  fi
  mkdir -p "$home/bucket"
  command -v gcsfuse >/dev/null || install_gcsfuse
  # Orbax renames the folder of each checkpoint, which gcsfuse refuses without a limit.
  # Folders that other tools made exist only in names of files: they are implicit. Hosts
  # see each other's files at once only without a cache of metadata.
  gcsfuse --implicit-dirs --rename-dir-limit=100000 --metadata-cache-ttl-secs=0 \
    "$bucket" "$home/bucket"
}

# Follow https://cloud.google.com/storage/docs/cloud-storage-fuse/install.
install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc apt=https://packages.cloud.google.com/apt
  curl -fsSL "$apt/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -qq
  sudo apt-get install -y -qq gcsfuse
}

setup() {
  local lock
  for lock in "$home"/runs/*/lock; do
    if is_locked "$lock"; then
      lock=${lock%/lock}
      die "the run ${lock##*/} is alive: stop it first"
    fi
  done
  rm -rf "$home/ready" "$home/source"
  mv "$home/new" "$home/source"
  # TPU VMs have Python 3.10; uv installs a newer one.
  command -v uv >/dev/null || curl -fsSL https://astral.sh/uv/install.sh | sh
  uv venv --quiet --allow-existing --python 3.12 "$home/venv"
  # Otherwise uv would reuse a wheel of older sources.
  uv pip install --quiet --python "$home/venv/bin/python" \
    --reinstall-package hybrid_jax "$home/source[tpu,galaxy10,sweep]"
  mount_bucket "$1"
  touch "$home/ready"
}

# Check whether a process holds a lock, which is free as soon as that process ends.
is_locked() {
  [[ -e $1 ]] && ! flock --nonblock --shared "$1" true
}

# Usage: workdir_in BUCKET
workdir_in() {
  if [[ -n $1 ]]; then echo "$home/bucket/$run"; else echo "$home/workdirs/$run"; fi
}

command_line() {
  printf '%q ' "$@"
}

# Refuse a live run that is not the one that is asked for: what it has trained may be lost
# with the machine.
agree() {
  local workdir there arguments way_out="stop it first, or give another --run"
  workdir=$(workdir_in "$1") there=$(<"$folder/workdir")
  [[ $there == "$workdir" ]] || die "$run is alive in $there, not in $workdir: $way_out"
  mount_bucket "$1" # which refuses another bucket
  # Older versions have not written the arguments.
  if [[ -e $folder/arguments ]]; then
    arguments=$(<"$folder/arguments")
    [[ $arguments == "$(command_line "${@:2}")" ]] ||
      die "$run is alive with other arguments (${arguments% }): $way_out"
  fi
  echo "$run is alive already: nothing was started"
}

start() {
  local bucket=$1 workdir
  workdir=$(workdir_in "$bucket")
  shift
  mount_bucket "$bucket"
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  # Wait a moment for other processes that only check the lock.
  if ! flock --timeout 1 9; then
    agree "$bucket" "$@"
    return
  fi
  rm -f "$folder/pid" "$folder/code"
  printf '%s\n' "$workdir" >"$folder/workdir"
  command_line "$@" >"$folder/arguments"
  # A new session outlives the connection that starts it.
  setsid "$BASH" "$0" keep "$run" \
    "$home/venv/bin/hybrid-jax" "$@" "--workdir=$workdir" \
    </dev/null >>"$folder/log" 2>&1 &
  until [[ -s $folder/pid ]]; do
    kill -0 "$!" || die "$run cannot be started: see $folder/log"
    sleep 0.02
  done
  echo "started $run"
}

# Hold the lock while hybrid-jax runs, and save its exit code.
keep() {
  local code=0
  cd "$home/source"
  printf '== %s: %s\n' "$(date)" "$(printf '%q ' "${@:2}")"
  "$@" 9>&- &
  echo "$!" >"$folder/pid"
  wait "$!" || code=$?
  echo "$code" >"$folder/code.new"
  mv "$folder/code.new" "$folder/code"
}

# Print "hybrid_jax absent", "hybrid_jax alive SAVED" or "hybrid_jax ended CODE SAVED".
state() {
  local how
  [[ -e $folder/lock ]] || { echo "hybrid_jax absent" && return; }
  if is_locked "$folder/lock"; then how=alive; else how="ended $(code)"; fi
  echo "hybrid_jax $how $(saved)"
}

# Print what is saved in the workdir of a run, a sweep or a study: the number of files of
# results, the time of the newest checkpoint, and its path. A sweep deletes checkpoints
# of trials that have ended.
saved() {
  local found results newest
  found=$(find_saved 2>/dev/null) || true
  results=$(grep -c '^result$' <<<"$found") || true
  newest=$(grep '^[0-9]' <<<"$found" | LC_ALL=C sort | tail -n 1) || true
  newest=${newest:-never ./none}
  echo "results=$results at=${newest%% *} newest=${newest#* ./}"
}

find_saved() {
  [[ -s $folder/workdir ]] || return
  cd "$(<"$folder/workdir")" || return
  TZ=UTC0 find . -type d \( -name tensorboard -o -path '*/checkpoints/*/*' \) -prune -o \
    -path '*/checkpoints/[0-9]*/manifest.json' -printf '%T+ %h\n' -o \
    \( -name results.json -o -name failure.json -o -name cost.json \) -printf 'result\n'
}

# Print the exit code of a run that has ended; it is lost if the machine was switched off.
code() {
  if [[ -s $folder/code ]]; then cat "$folder/code"; else echo lost; fi
}

follow() {
  [[ -e $folder/log ]] || die "$run has no log here: start it first"
  if is_locked "$folder/lock"; then
    tail -n 100 --follow --pid="$(<"$folder/pid")" --sleep-interval=0.5 "$folder/log"
    flock --timeout 60 --shared "$folder/lock" true
  else
    tail -n 100 "$folder/log"
  fi
  echo "$run ended with exit code $(code)"
  return "$(code | grep -x '[0-9]*' || echo 1)"
}

stop() {
  if ! is_locked "$folder/lock"; then
    echo "$run is not alive"
    return
  fi
  kill -TERM "$(<"$folder/pid")"
  flock --timeout 90 --shared "$folder/lock" true ||
    { echo "$run is still alive" && exit 1; }
  echo "$run ended with exit code $(code)"
}

"$command" "${@:3}"

#!/usr/bin/env bash
# What tpu.sh does on a worker of a TPU VM. It is copied there and called by tpu.sh.
#
#   worker.sh setup RUN BUCKET           installs ~/hybrid_jax/new
#   worker.sh start RUN BUCKET [ARG ...] starts hybrid-jax, unless the run is alive
#   worker.sh state RUN                  in one line
#   worker.sh follow RUN                 shows the log until the run ends, and ends as it
#   worker.sh stop RUN                   has the run save its step, waits for its end
set -euo pipefail

home=$HOME/hybrid_jax
command=$1 run=$2
folder=$home/runs/$run # log, pid, exit code and lock of the run on this worker
PATH=$HOME/.local/bin:$PATH

die() {
  echo "worker.sh: $*" >&2
  exit 2
}

# Needs no root: gcsfuse mounts for the user that it runs as.
mount_bucket() {
  local bucket=$1 mounted
  [[ -n $bucket ]] || return 0
  if mounted=$(findmnt --noheadings --output SOURCE --mountpoint "$home/bucket"); then
    [[ $mounted == "$bucket" ]] ||
      die "$home/bucket is the bucket $mounted, not $bucket: fusermount -u it first"
    stat "$home/bucket" >/dev/null 2>&1 && return
    fusermount -uz "$home/bucket" # whose gcsfuse has died
  fi
  mkdir -p "$home/bucket"
  command -v gcsfuse >/dev/null || install_gcsfuse
  # Orbax writes a checkpoint aside and renames its folder, which gcsfuse refuses without
  # a limit. Folders that other tools made are names of files alone: they are implicit.
  # Hosts see each other's files at once only if nobody remembers what there was.
  gcsfuse --implicit-dirs --rename-dir-limit=100000 --metadata-cache-ttl-secs=0 \
    "$bucket" "$home/bucket"
}

# As https://cloud.google.com/storage/docs/cloud-storage-fuse/install has it.
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
    if is_held "$lock"; then
      lock=${lock%/lock}
      die "the run ${lock##*/} is alive: stop it first"
    fi
  done
  rm -rf "$home/ready" "$home/source"
  mv "$home/new" "$home/source"
  # Images of TPU VMs have Python 3.10; uv brings a newer one.
  command -v uv >/dev/null || curl -fsSL https://astral.sh/uv/install.sh | sh
  uv venv --quiet --allow-existing --python 3.12 "$home/venv"
  # uv would take a wheel that it built before, of other sources.
  uv pip install --quiet --python "$home/venv/bin/python" \
    --reinstall-package hybrid_jax "$home/source[tpu]"
  mount_bucket "$1"
  touch "$home/ready"
}

# Whether some process holds a lock: it is free as soon as that process is dead.
is_held() {
  [[ -e $1 ]] && ! flock --nonblock --shared "$1" true
}

start() {
  local bucket=$1 workdir=$home/workdirs/$run
  shift
  mount_bucket "$bucket"
  [[ -z $bucket ]] || workdir=$home/bucket/$run
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  # It waits a moment for those who only look whether the lock is free.
  if ! flock --timeout 1 9; then
    echo "$run is alive already: nothing is started"
    return
  fi
  rm -f "$folder/pid" "$folder/code"
  printf '%s\n' "$workdir" >"$folder/workdir"
  # A session of its own outlives the connection that starts it.
  setsid "$BASH" "$0" keep "$run" \
    "$home/venv/bin/hybrid-jax" "--workdir=$workdir" "$@" \
    </dev/null >>"$folder/log" 2>&1 &
  until [[ -s $folder/pid ]]; do
    kill -0 "$!" || die "$run cannot be started: see $folder/log"
    sleep 0.02
  done
  echo "$run is started"
}

# Holds the lock as long as hybrid-jax lives, and writes down how it ended.
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

# hybrid_jax absent | alive STEP | ended CODE STEP, STEP of the newest checkpoint.
state() {
  local step how
  [[ -e $folder/lock ]] || { echo "hybrid_jax absent" && return; }
  if is_held "$folder/lock"; then how=alive; else how="ended $(code)"; fi
  step=$(find "$(<"$folder/workdir")/checkpoints" -maxdepth 1 -regex '.*/[0-9]+' \
    -printf '%f\n' 2>/dev/null | sort -n | tail -n 1) || true
  echo "hybrid_jax $how ${step:--1}"
}

# Of a run that has ended; a machine that was switched off wrote none.
code() {
  if [[ -s $folder/code ]]; then cat "$folder/code"; else echo lost; fi
}

follow() {
  [[ -e $folder/log ]] || die "$run has no log here: start it first"
  if is_held "$folder/lock"; then
    tail -n 100 --follow --pid="$(<"$folder/pid")" --sleep-interval=0.5 "$folder/log"
    flock --timeout 60 --shared "$folder/lock" true
  else
    tail -n 100 "$folder/log"
  fi
  echo "$run has ended with exit code $(code)"
  return "$(code | grep -x '[0-9]*' || echo 1)"
}

stop() {
  if ! is_held "$folder/lock"; then
    echo "$run is not alive"
    return
  fi
  kill -TERM "$(<"$folder/pid")"
  flock --timeout 90 --shared "$folder/lock" true || { echo "$run is alive yet" && exit 1; }
  echo "$run has ended with exit code $(code)"
}

"$command" "${@:3}"

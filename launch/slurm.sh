#!/usr/bin/env bash
# Train on a Slurm cluster, and resume after the time limit of a job.
#
#   launch/slurm.sh --time=4:00:00 --gpus-per-node=4 --nodes=2 -- \
#       --config=configs/cifar10.py --workdir=runs/cifar10
#
# Options before -- are those of sbatch; they override the ones below. Options after --
# are those of hybrid-jax, which is found from the current environment. --workdir must be
# a folder that all nodes share. --dry-run shows the command and runs nothing. --help
# shows this text.
#
# The job has one process for each GPU. Two minutes before the time limit, Slurm sends
# SIGTERM to them. They save their step, and the job returns to the queue, as it does when
# it is preempted. The job ends when the run does, with its exit code: 0 if it is
# complete, 2 or 3 for an error that you can fix.
# Inside a job (salloc), the script starts the processes there.
#
# --array starts several jobs that work on one sweep, each process by itself on one GPU:
#
#   launch/slurm.sh --array=0-7 -- sweep --config=configs/cifar10.py --workdir=sweeps/lr \
#       --sweep.optim.learning_rate=1e-4:1e-1:log --storage=postgresql://USER@HOST/DB
#
#SBATCH --job-name=hybrid-jax
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-gpu=8
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Slurm copies this file alone to the node of the job, so common.sh is not available.
in_job() {
  local gpus=${SLURM_GPUS_ON_NODE:-1} code=0 binding=--gpu-bind=none job=$SLURM_JOB_ID
  local run=(srun) unused=()
  while (($#)) && [[ $1 != -- ]]; do
    case $1 in
      -h | --help) show_head ;;
      --dry-run) run=(show srun) ;;
      *) unused+=("$1") ;;
    esac
    shift
  done
  if ((${#unused[@]})); then
    echo "slurm.sh: the job is there already, so these change nothing: ${unused[*]}" >&2
  fi
  if (($# < 2)); then
    echo "slurm.sh: give the arguments of hybrid-jax behind --, such as" \
      "-- --config=FILE --workdir=DIR" >&2
    exit 2
  fi
  # The shell must survive SIGTERM, to see how the run ends. If it ignored the signal,
  # hybrid-jax would ignore it too.
  trap : TERM
  # Every process of a run sees all GPUs of its node, and jax uses the one of its number.
  # Workers of a sweep know nothing of each other, so each sees its own GPU alone. The
  # first process to end must not end the others at once, since they may be saving.
  if is_shared_work "${2:-}"; then binding=--gpus-per-task=1; fi
  "${run[@]}" --nodes="${SLURM_JOB_NUM_NODES:-1}" --ntasks-per-node="$gpus" "$binding" \
    --kill-on-bad-exit=0 --wait=60 hybrid-jax "${@:2}" || code=$?
  # The number of an array's last job stands for the whole array, too.
  if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  fi
  if ((code == 143)) && is_running "$job"; then
    if scontrol requeue "$job"; then
      echo "slurm.sh: job $job returns to the queue"
    else
      echo "slurm.sh: job $job cannot return to the queue: submit the same command" \
        "again, and the run resumes" >&2
    fi
  fi
  exit "$code"
}

# Show the comment at the head of this script.
show_head() {
  sed -n '1d; /^#SBATCH/d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
}

# Show a command as a line that a shell reads as the same.
show() {
  printf '%q ' "$@"
  echo
}

# Check that Slurm has not cancelled the job: scancel leads to 143 too.
is_running() {
  [[ $(scontrol show job "$1") == *JobState=RUNNING* ]]
}

# Check that a command of hybrid-jax is one that several jobs may work on.
is_shared_work() {
  [[ $1 == sweep || $1 == study ]]
}

# Refuse an array of jobs that would not share their work.
check_array() {
  local word
  for word in ${words[@]+"${words[@]}"}; do
    if [[ $word == --ar* || $word == -a* ]]; then
      is_shared_work "${arguments[0]}" ||
        die "$word starts several jobs, which share a sweep or a study alone: add --" \
          "sweep, or leave it out"
      [[ ${arguments[0]} != sweep || " ${arguments[*]}" == *" --storage"* ]] ||
        die "$word is for many nodes, and SQLite for one: add" \
          "--storage=postgresql://USER@HOST/DATABASE behind --"
    fi
  done
}

submit() {
  local here
  here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
  # shellcheck source=launch/common.sh
  source "$here/common.sh"
  # shellcheck disable=SC2034 # it is for parse
  pass_on=yes
  parse "" "" "$@"
  needs_arguments --config=FILE --workdir=DIR
  check_array
  need sbatch "run this on a login node of a Slurm cluster"
  execute sbatch ${words[@]+"${words[@]}"} "$here/slurm.sh" -- "${arguments[@]}"
}

if [[ -n ${SLURM_JOB_ID:-} ]]; then in_job "$@"; else submit "$@"; fi

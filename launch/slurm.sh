#!/usr/bin/env bash
# Trains on a Slurm cluster, and goes on when the time of a job is up.
#
#   launch/slurm.sh --time=4:00:00 --gpus-per-node=4 --nodes=2 -- \
#       --config=configs/cifar10.py --workdir=runs/cifar10
#
# What precedes -- is sbatch's: options of your own go before those below. What follows
# is hybrid-jax's, which is taken from where you are, as sbatch does. --workdir must be a
# folder that all nodes share. --dry-run shows the command and runs none; --help helps.
#
# The job has one process for each GPU. Two minutes before its end Slurm sends SIGTERM to
# them; they save their step, and the job is put back into the queue, as it is when it is
# preempted. It ends when the run does, with its exit code: 0 done, 2 and 3 to be mended.
# Inside of a job (salloc), it starts the processes there.
#
#SBATCH --job-name=hybrid-jax
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-gpu=8
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Slurm copies this file alone to where the job begins, so nothing of common.sh is here.
in_job() {
  local gpus=${SLURM_GPUS_ON_NODE:-1} code=0
  while (($#)) && [[ $1 != -- ]]; do shift; done
  # The shell waits for srun, whatever signal it gets itself, to see how the run ends. A
  # signal that it ignored would be ignored by hybrid-jax too.
  trap : TERM
  # Every process sees all GPUs of its node, of which jax takes the one of its number.
  # Who ends first may not end the others at once, since they may be saving.
  srun --nodes="${SLURM_JOB_NUM_NODES:-1}" --ntasks-per-node="$gpus" --gpu-bind=none \
    --kill-on-bad-exit=0 --wait=60 hybrid-jax "${@:2}" || code=$?
  if ((code == 143)) && goes_on; then
    echo "slurm.sh: job $SLURM_JOB_ID goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$code"
}

# Whether Slurm has other plans for the job than to end it: scancel gives 143 too.
goes_on() {
  [[ $(scontrol show job "$SLURM_JOB_ID") == *JobState=RUNNING* ]]
}

submit() {
  local here
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  # shellcheck source=launch/common.sh
  source "$here/common.sh"
  # shellcheck disable=SC2034 # it is for parse
  pass_on=yes
  parse "" "" "$@"
  needs_arguments --config=FILE --workdir=DIR
  need sbatch "call this on a login node of a Slurm cluster"
  execute sbatch ${words[@]+"${words[@]}"} "$here/slurm.sh" -- "${arguments[@]}"
}

if [[ -n ${SLURM_JOB_ID:-} ]]; then in_job "$@"; else submit "$@"; fi

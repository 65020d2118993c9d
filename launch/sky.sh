#!/usr/bin/env bash
# Train on cheap, preemptible machines of any cloud, with SkyPilot: pip install skypilot,
# then sky check.
#
#   launch/sky.sh --bucket=s3://my-runs --gpus L4:1 -- --config=configs/cifar10.py
#
# SkyPilot finds a machine (launch/sky.yaml), copies what git does not ignore here, and
# starts the run. When the machine is preempted, the run resumes on another one. It is a
# managed job: sky jobs queue, sky jobs logs, sky jobs cancel.
#
# Every call with the same --run adds a machine to a sweep, whose trials lie in a database
# that all of them reach:
#
#   launch/sky.sh --run=lr -- sweep --config=configs/cifar10.py \
#       --sweep.optim.learning_rate=1e-4:1e-1:log --storage=postgresql://USER@HOST/DB
#
# Options, with [defaults]:
#   --bucket=URL  bucket for workdirs, which outlive machines: s3://, gs://, ...
#                 [$SKY_BUCKET]
#   --run=RUN     name of the run, and of its workdir [hybrid-jax]
#   --dry-run     show the command, and run nothing
#   --help        show this text
#
# Other options before -- are those of sky jobs launch, such as --infra gcp. Options after
# -- are those of hybrid-jax, without --workdir: that is the folder RUN of the bucket.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"

# shellcheck disable=SC2034 # it is for parse
pass_on=yes bucket=${SKY_BUCKET:-} run=hybrid-jax
parse "bucket run" "" "$@"
check_run
check_arguments
needs_arguments --config=FILE
[[ $bucket =~ ^[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._/-]*$ ]] ||
  die "--bucket=$bucket is no URL of a bucket: give one, such as s3://my-runs, since a" \
    "preempted machine loses all that was trained"
need sky "run pip install 'skypilot[aws,gcp]', with the clouds that you use"

execute sky jobs launch --name "$run" --workdir "$here/.." \
  --env "BUCKET=$bucket" --env "RUN=$run" --env "ARGUMENTS=$(quoted "${arguments[@]}")" \
  ${words[@]+"${words[@]}"} "$here/sky.yaml"

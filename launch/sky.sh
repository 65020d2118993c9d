#!/usr/bin/env bash
# Trains on machines of any cloud that are cheap and can be preempted, with SkyPilot:
# pip install skypilot, then sky check.
#
#   launch/sky.sh --bucket=s3://my-runs --gpus L4:1 -- --config=configs/cifar10.py
#
# SkyPilot finds a machine (launch/sky.yaml), copies what git does not ignore here, starts
# the run, and goes on with it elsewhere when the machine is preempted. It is a managed
# job: sky jobs queue, sky jobs logs, sky jobs cancel.
#
# Options, with [defaults]:
#   --bucket=URL  where workdirs outlive the machine: s3://, gs://, ... [$SKY_BUCKET]
#   --run=RUN     name of the run, and of its workdir [hybrid-jax]
#   --dry-run     shows the command and runs none
#   --help
#
# Others that precede -- are those of sky jobs launch, such as --infra gcp. What follows
# is hybrid-jax's, but for --workdir: that is the folder RUN of the bucket.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"

# shellcheck disable=SC2034 # it is for parse
pass_on=yes bucket=${SKY_BUCKET:-} run=hybrid-jax
parse "bucket run" "" "$@"
check_run
check_arguments
needs_arguments --config=FILE
[[ $bucket =~ ^[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._/-]*$ ]] ||
  die "--bucket=$bucket is no URL of a bucket, such as s3://my-runs: without one, all that" \
    "was trained is lost with a machine that is preempted"
need sky "pip install skypilot, with the clouds that you have: 'skypilot[aws,gcp]'"

execute sky jobs launch --name "$run" --workdir "$here/.." \
  --env "BUCKET=$bucket" --env "RUN=$run" --env "ARGUMENTS=$(quoted "${arguments[@]}")" \
  ${words[@]+"${words[@]}"} "$here/sky.yaml"

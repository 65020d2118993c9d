#!/usr/bin/env bash
# Benchmarks for a GPU: benchmarks/gpu.sh [FOLDER [PART ...]]
# Runs the parts that are named, or all of them, one after the other. Output goes to the
# screen and to FOLDER (gpu-results). A part is stopped after LIMIT seconds (600). If a
# part fails, the others still run, and the exit status is 1.
set -euo pipefail

PARTS=(bound train_step_0 train_step_1 train_step_3 inference memory compile_time
  kernels attention scaling epoch nano)

choose() { # NAME: set `script` to what a part runs
  case $1 in
    train_step_*)
      script=(benchmarks/train_step.py "--only=astroformer_${1#train_step_}," --rounds=3)
      ;;
    inference | memory)
      script=("benchmarks/$1.py" "--only=astroformer_1," --rounds=3)
      ;;
    bound) script=(benchmarks/bound.py --models astroformer_0 astroformer_1) ;;
    nano)
      rm -f "$folder/nano.json"
      script=(-m hybrid_jax.main benchmark "--config=digits:astroformer_nano"
        "--config.data.image_size=32,32" --json="$folder/nano.json"
        --profile="$folder/nano-profile")
      ;;
    *) script=("benchmarks/$1.py") ;;
  esac
}

for name in "${@:2}"; do
  if [[ " ${PARTS[*]} " != *" $name "* ]]; then
    echo "gpu.sh: no part '$name': ${PARTS[*]}" >&2
    exit 2
  fi
done
folder=$(realpath -m "${1:-gpu-results}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! python -c 'import jax, sys; sys.exit(jax.default_backend() != "gpu")'; then
  echo "gpu.sh: jax sees no GPU here: pip install '.[gpu]', or another machine" >&2
  exit 1
fi
mkdir -p "$folder"
# Contenders share the GPU, so none may take all of its memory.
export XLA_PYTHON_CLIENT_PREALLOCATE=false

status=0
if (($# > 1)); then PARTS=("${@:2}"); fi
for name in "${PARTS[@]}"; do
  echo "== $name"
  choose "$name"
  timeout "${LIMIT:-600}" python "${script[@]}" 2>&1 | tee "$folder/$name.txt" || status=1
done
exit "$status"

#!/usr/bin/env bash
# Everything that only a GPU can show, in one command: benchmarks/gpu.sh [FOLDER]
# Output goes to the screen and to FOLDER (gpu-results). A benchmark that fails loses
# nobody else's output, and the exit status says so.
set -euo pipefail
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
measure() {
  local name=$1
  shift
  echo "== $name"
  python "$@" 2>&1 | tee "$folder/$name.txt" || status=1
}

measure train_step benchmarks/train_step.py
measure inference benchmarks/inference.py
measure memory benchmarks/memory.py
measure compile_time benchmarks/compile_time.py
measure attention benchmarks/attention.py
measure scaling benchmarks/scaling.py
measure epoch benchmarks/epoch.py
measure nano -m hybrid_jax.main benchmark --config=configs/digits.py:astroformer_nano \
  --config.data.image_size=32,32 --json="$folder/nano.json" \
  --profile="$folder/nano-profile"
exit "$status"

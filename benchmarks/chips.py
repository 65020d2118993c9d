"""Bounds of training on chips that are not here: largest batch, and images a second.

Runs `hybrid-jax benchmark --target` for each model and chip, on the digits enlarged to
224 px, 64 images a step in bfloat16. Results stay in a folder, and are not computed
again. Prints a table in Markdown, a row every ten to thirty minutes.

    pip install 'hybrid_jax[tpu]' jax-cuda12-plugin   # compilers; no chip is needed
    python benchmarks/chips.py
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

CHIPS = ("h100", "v5e", "v5p")
MODELS = tuple(
    f"{family}_{size}" for family in ("astroformer", "coatnet") for size in range(6)
)
SETTINGS = (
    "--config.data.image_size=224,224",
    "--config.model.strides=2,2,2,2,2",
    "--config.train.batch_size=64",
    "--config.train.eval_batch_size=64",
)


def main() -> None:
    """Compile what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--chips", nargs="+", default=CHIPS)
    parser.add_argument("--folder", type=Path, default=Path("chips-results"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print("| model | " + " | ".join(args.chips) + " |")
    print("|---" * (1 + len(args.chips)) + "|")
    failed = 0
    for model in args.models:
        found = [measure(args.folder, model, chip) for chip in args.chips]
        print(f"| {model} | " + " | ".join(map(cell, found)) + " |", flush=True)
        failed += sum(isinstance(one, str) for one in found)
    if failed:
        raise SystemExit(f"chips.py: {failed} did not compile; their cells say why")


def command(model: str) -> list[str]:
    """Return the command that measures a model, to which arguments may be added."""
    program = [sys.executable, "-m", "hybrid_jax.main", "benchmark"]
    return [*program, f"--config=digits:{model}", *SETTINGS]


def measure(folder: Path, model: str, chip: str) -> dict | str:
    """Return the numbers of one model and chip, or why there are none."""
    path = folder / f"{chip}_{model}.json"
    if not path.exists():
        print(f"compiling {model} for {chip} ...", file=sys.stderr)
        arguments = [*command(model), f"--target={chip}", f"--json={path}"]
        done = subprocess.run(  # noqa: S603
            arguments, capture_output=True, text=True
        )
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["failed"])[-1]
    return json.loads(path.read_text())


def cell(found: dict | str) -> str:
    """Return the largest batch of training, and its bound in images a second."""
    if isinstance(found, str):
        return found
    train = found["train"]
    return f"{train['memory']['largest_batch']:,}; {train['images_per_second']:,.0f}"


if __name__ == "__main__":
    main()

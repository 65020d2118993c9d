"""Write a program as ONNX, which onnxruntime and many others run."""

import json
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.engine.run import Run
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.export.about import describe
from hybrid_jax.export.check import Predict
from hybrid_jax.export.program import Program, create_program, plain_operations
from hybrid_jax.extras import import_extra

OPSET = 18  # of onnxruntime 1.14, of 2023, and later
PACKAGES = ("jax2onnx", "onnx", "onnxruntime")


def require() -> None:
    """Refuse to begin where a package is missing.

    Raises:
      UserError: names the extra that installs it.
    """
    for name in PACKAGES:
        import_extra(name, extra="onnx", purpose="--format=onnx")


def write(run: Run, path: Path, temperature: float) -> None:
    """Write a file with the program, and what is to be known of it as metadata.

    Raises:
      UserError: the program cannot be converted.
    """
    program, about = create_program(run, temperature), describe(run, temperature)
    about["image_size"] = f"{about['height']}x{about['width']}"
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in about.items()
    }
    # After a conversion, the process can compile the network no more.
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            pool.submit(_convert, program, path, texts).result()
    except BrokenProcessPool:
        raise UserError(
            "the process that converts to ONNX died: it may be out of memory"
        ) from None
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"jax2onnx cannot convert it: {first_line(error)}") from None


def load(path: Path, run: Run) -> Predict:
    """Return the program of a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        (probabilities,) = session.run(["probabilities"], {"images": images})
        return np.asarray(probabilities)

    return predict


def _convert(program: Program, path: Path, texts: dict[str, str]) -> None:
    """Convert a program, in a process that does nothing else."""
    jax.config.update("jax_platforms", "cpu")  # devices may be in use
    import jax2onnx
    import onnx

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    images = jax.ShapeDtypeStruct(("N", *program.shape), jnp.uint8)
    with plain_operations():
        model = jax2onnx.to_onnx(
            lambda images: program(images),
            [images],
            model_name="hybrid_jax",
            opset=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
        )
    for key, value in texts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)

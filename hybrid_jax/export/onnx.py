"""Write a program as ONNX, which onnxruntime and many others run."""

import contextlib
import importlib.util
import json
import logging
import multiprocessing
import signal
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.errors import UserError, first_line
from hybrid_jax.export.about import describe
from hybrid_jax.export.check import Reader
from hybrid_jax.export.program import Program, create_program, plain_operations
from hybrid_jax.extras import import_extra
from hybrid_jax.runs.run import Run

OPSET = 18  # onnxruntime runs it since version 1.14 (2023)
PACKAGES = ("jax2onnx", "onnx", "onnxruntime")


def require() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
      UserError: a package is missing; names the extra that installs it.
    """
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:  # jax2onnx takes long to import
            import_extra(name, extra="onnx", purpose="--format=onnx")


def write(run: Run, path: Path, temperature: float) -> None:
    """Write a file with the program, and its description as metadata.

    Raises:
      UserError: the program cannot be converted.
    """
    program, about = create_program(run, temperature), describe(run, temperature)
    about["image_size"] = f"{about['height']}x{about['width']}"
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in about.items()
    }
    if error := _convert_apart(program, path, texts):
        raise UserError(f"jax2onnx cannot convert this network: {error}")


def load(path: Path, run: Run) -> Reader:
    """Return a reader of the program in a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        (probabilities,) = session.run(["probabilities"], {"images": images})
        return np.asarray(probabilities)

    return Reader("onnxruntime", predict)


def _convert_apart(program: Program, path: Path, texts: dict[str, str]) -> str:
    """Convert a program in a process of its own; return an error, or an empty text.

    After a conversion, a process can no longer compile the same network.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(
        target=_convert_and_tell, args=(program, path, texts, sender), daemon=True
    )
    # The process inherits what is blocked, so that Ctrl-C is for this one alone. The
    # first start of the tracker would end the blocking.
    resource_tracker.ensure_running()
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    try:
        sender.close()
        return str(receiver.recv())
    except EOFError:
        process.join()
        return f"its process died with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _convert_and_tell(
    program: Program, path: Path, texts: dict[str, str], sender: Connection
) -> None:
    """Convert a program; send an error, or an empty text."""
    jax.config.update("jax_platforms", "cpu")  # other devices are in use
    try:
        _convert(program, path, texts)
        error = ""
    except Exception as raised:  # jax2onnx raises many kinds
        error = first_line(raised)
    with contextlib.suppress(BrokenPipeError):  # the parent was killed
        sender.send(error)


def _convert(program: Program, path: Path, texts: dict[str, str]) -> None:
    """Write a program as ONNX, with texts as metadata."""
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

"""Describe an exported program: its classes, images, source and metrics."""

import importlib.metadata
from typing import Any

from hybrid_jax.export.program import input_shape
from hybrid_jax.runs.results import chosen_by
from hybrid_jax.runs.run import Run

# How an image of another size is resized to height h and width w, by the row of
# `image_io.FITS`: in words, and as an expression of Pillow, of a method of resizing.
FITS = {
    "crop": (
        "resize the largest centered part that has the shape h x w, {adverb}",
        "PIL.ImageOps.fit(image, (w, h), PIL.Image.Resampling.{constant})",
    ),
    "pad": (
        "resize the whole image so that it fits into h x w, {adverb}, and fill the "
        "rest with black, the image in the center",
        "PIL.ImageOps.pad(image, (w, h), PIL.Image.Resampling.{constant})",
    ),
    "stretch": (
        "resize the whole image to h x w, {adverb}, whatever its shape",
        "image.resize((w, h), PIL.Image.Resampling.{constant})",
    ),
}
ADVERBS = {"bicubic": "bicubically", "bilinear": "bilinearly"}


def resizing(run: Run) -> str:
    """Return how images reach the size of the network: `bicubic` or `bilinear`.

    Pillow resizes them bicubically as they are read. Where that is not to the network's
    size, the device resizes them bilinearly.
    """
    is_read_so = run.form.target is None and run.form.size == tuple(
        run.network.image_size
    )
    return "bicubic" if is_read_so else "bilinear"


def fit_in_words(fit: str, method: str) -> tuple[str, str]:
    """Return a row of `FITS` for a method of resizing, such as `bicubic`."""
    words, pillow = FITS[fit]
    words = words.format(adverb=ADVERBS[method])
    return words, pillow.format(constant=method.upper())


def describe(run: Run, temperature: float) -> dict[str, Any]:
    """Return what a user of the program must know, fit for JSON.

    Args:
      run: the run.
      temperature: number by which the program divides log probabilities.
    """
    return {
        "input": "images: uint8 [N, height, width, channels], levels 0 to 255",
        "output": "probabilities: float32 [N, classes], in the order of classes",
        "classes": list(run.classes),
        **_images(run),
        "computes_in": "float32",
        "trained_in": run.config.dtype,
        "temperature": temperature,
        "views": run.network.views,
        "model": run.config.model.name,
        "data": run.config.data.title,
        "checkpoint": run.checkpoint,
        "results": tested(run),
        "hybrid_jax": importlib.metadata.version("hybrid_jax"),
    }


def _images(run: Run) -> dict[str, Any]:
    height, width, channels = input_shape(run)
    exact = run.form.target is None
    words, pillow = fit_in_words(run.form.fit, "bicubic" if exact else "bilinear")
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "color": "gray" if channels == 1 else "RGB",
        "images_of_another_size": {
            "fit": run.form.fit,
            "how": words,
            "pillow": pillow,
            "as_hybrid_jax_does": exact
            or "nearly: it reduces large images to twice the size first",
        },
        "before": {
            "orientation": "as EXIF says: PIL.ImageOps.exif_transpose(image)",
            "transparent_pixels": f"over {run.form.background}",
            "mode": "L" if channels == 1 else "RGB",
            "images_of_16_bits": f"divide levels by {2 ** (run.form.bits - 8)}"
            if run.form.bits
            else "unknown",
        },
    }


def tested(run: Run) -> dict[str, Any] | None:
    """Return the metrics of the exported checkpoint, and which split chose it.

    Returns None if the run has not ended, or if another checkpoint was tested, or the
    same without averaging over views.
    """
    results = run.own_results
    if not results:
        return None
    return {
        "chosen_by": chosen_by(results),
        **{
            split: {
                name: value
                for name, value in results[split].items()
                if isinstance(value, int | float)
            }
            for split in ("validation", "test")
            if split in results
        },
    }

"""The model card of a network on the Hugging Face Hub."""

import re
from typing import Any

from hybrid_jax.console import percent
from hybrid_jax.errors import escape
from hybrid_jax.export.about import ADVERBS, fit_in_words, tested
from hybrid_jax.runs.run import Run
from hybrid_jax.training.metrics import with_titles

FRONT = """---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- hybrid_jax
---
"""
# How logits become probabilities, in PyTorch, by the row of `LOSSES`.
PROBABILITIES = {
    "softmax": "logits.softmax(-1)",
    "sigmoid": "torch.nn.functional.logsigmoid(logits).softmax(-1)",
    "focal": "torch.nn.functional.logsigmoid(logits).softmax(-1)",
}
USE = """```python
import PIL.Image, PIL.ImageOps, timm, torch

network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
# or "hf-hub:OWNER/NAME", once the folder is uploaded
config = timm.data.resolve_model_data_config(network)
transform = timm.data.create_transform(**config, is_training=False)
image = PIL.ImageOps.exif_transpose(PIL.Image.open("image.png")).convert("{mode}")
{resized}  # so that the transform need not
with torch.no_grad():
    logits = network(transform(image)[None])
probabilities = {probabilities}[0]
names = network.pretrained_cfg["label_names"]
print(names[probabilities.argmax()], probabilities.max())
```
"""


def model_card(run: Run, config: dict[str, Any], temperature: float) -> str:
    """Return the model card as Markdown.

    Args:
      run: the run.
      config: content of timm's `config.json`.
      temperature: divides the logits.
    """
    height, width = run.network.image_size
    words, resized = _resized(run, config["pretrained_cfg"]["interpolation"])
    data, gray = code(run.config.data.title), run.form.channels == 1
    parts = [
        FRONT,
        f"# {run.config.model.name}, trained on {data}\n",
        f"An image classifier of {len(run.classes)} classes, trained with hybrid_jax "
        f"({run.weights_in_words}), in timm's format: `{config['architecture']}` with "
        "the arguments in `config.json`.\n",
        "## Measured\n",
        _metrics_table(run),
        "## Data\n",
        f"Trained on {data}. Images are {'gray' if gray else 'RGB'}, "
        f"{height}x{width} px (height x width); "
        f"images of another size are converted as follows (`{run.form.fit}`): "
        f"{words}.\n",
        "Classes: " + ", ".join(map(code, run.classes)) + ".\n",
        "## Limits\n",
        _limits(run, config, temperature),
        "## Use\n",
        USE.format(
            mode="L" if gray else "RGB",
            resized=resized,
            probabilities=PROBABILITIES[run.network.loss.name],
        ),
    ]
    return "\n".join(parts)


def _resized(run: Run, method: str) -> tuple[str, str]:
    """Return how an image gets the network's size: in words, and as lines of Python.

    Args:
      run: the run.
      method: how images reach the size of the network, see `about.resizing`.
    """
    height, width = run.network.image_size
    if method == "bicubic" or run.form.target is not None:
        words, pillow = fit_in_words(run.form.fit, method)
        return words, f"w, h = {width}, {height}\nimage = {pillow}"
    # The data set has images of another size, to which new ones are brought first.
    h, w = run.form.size
    words, pillow = fit_in_words(run.form.fit, "bicubic")
    last = f"image.resize(({width}, {height}), PIL.Image.Resampling.{method.upper()})"
    return (
        f"{words}, where h x w is {h}x{w}, and then to {height}x{width}, "
        f"{ADVERBS[method]}"
    ), f"w, h = {w}, {h}\nimage = {pillow}\nimage = {last}"


def _metrics_table(run: Run) -> str:
    results = tested(run)
    if results is None:
        return "This checkpoint was not tested.\n"
    splits = [split for split in ("validation", "test") if split in results]
    shown = with_titles({name for s in splits for name in results[s]}, len(run.classes))
    rows = [
        [row.title, *(_number(results[split].get(name), row) for split in splits)]
        for name, row in shown.items()
    ]
    lines = [["metric", *splits], ["---"] * (1 + len(splits)), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    chosen = f"The checkpoint is {results['chosen_by']}."
    if "test" not in results:
        chosen += " It was not tested on a test split."
    return f"{chosen}\n\n{table}\n"


def _number(value: Any, row: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return percent(value) if row.is_share else f"{value:.4f}"


def _limits(run: Run, config: dict[str, Any], temperature: float) -> str:
    agree = "agree to 1e-5"
    if config["pretrained_cfg"]["interpolation"] != "bicubic":
        agree = (
            "nearly agree, as hybrid_jax resizes in two steps, and does not round to "
            "whole levels after the second"
        )
    lines = [
        f"It knows only these {len(run.classes)} classes: an image of anything else "
        "gets one of their names, perhaps with a high probability.",
        "The metrics hold for images like those of the data above; from another "
        "camera, place or time they may be lower.",
        "Its probabilities are not calibrated."
        if temperature == 1
        else f"Logits are divided by a temperature of {temperature:g}; the weights of "
        "the classifier include the division.",
        "timm's own transform resizes images differently from hybrid_jax, and fills "
        "borders with the mean color. So bring images to the right size first, as "
        f"below: probabilities then {agree}.",
        f"The run saw transparent pixels over {run.form.background}. Images of 16 bits "
        "must be brought to 8 bits first; Pillow's `convert` would cut their levels.",
    ]
    if run.config.dtype == "bfloat16":
        lines.append("It was trained in bfloat16, and these weights are float32.")
    return "".join(f"- {line}\n" for line in lines)


def code(name: str) -> str:
    """Return a name as code in Markdown, whatever characters it has."""
    text = " ".join(escape(name).splitlines())
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if longest else ""
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}"

"""Draw Optuna's figures of a search: importances, history, and slices."""

import typing
import warnings
from pathlib import Path

from hybrid_jax.errors import first_line
from hybrid_jax.paths import replacing

if typing.TYPE_CHECKING:
    from optuna import Study

MEASURE = "validation accuracy"  # metric that trials are compared by
# The file of each figure, and Optuna's function that draws it.
FIGURES = {
    "importances.png": "plot_param_importances",
    "history.png": "plot_optimization_history",
    "slices.png": "plot_slice",
}


def draw(study: "Study", folder: Path) -> list[str]:
    """Draw each figure into the folder of a search.

    Returns:
      A note for each figure that cannot be drawn, such as for a single trial.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    notes = []
    for name, function in FIGURES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these functions experimental
            try:
                getattr(plots, function)(study, target_name=MEASURE)
            except (ValueError, RuntimeError) as error:
                notes.append(f"{name} is left out: {first_line(error)}")
                continue
            finally:
                figures = [plt.figure(number) for number in plt.get_fignums()]
                plt.close("all")
        with replacing(folder / name) as scratch:
            figures[-1].savefig(scratch, dpi=150, bbox_inches="tight", format="png")
    return notes

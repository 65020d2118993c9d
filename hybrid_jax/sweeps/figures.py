"""Draw Optuna's figures of a search: importances, history, and slices."""

import re
import typing
import warnings
from pathlib import Path

from hybrid_jax.errors import first_line, plural
from hybrid_jax.paths import replacing
from hybrid_jax.sweeps.runs import COMPLETE
from hybrid_jax.sweeps.trial import PRUNED, RESULT

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure
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

    Trials that failed or were pruned are left out, since they have no accuracy.

    Returns:
      A note on these trials, and one for each figure that cannot be drawn, such as for
      a single trial.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as plots

    shown = _without_failures(study)
    trials = shown.get_trials(deepcopy=False)
    counts = {
        kind: sum(trial.state == state for trial in trials)
        for kind, state in (("failed", TrialState.FAIL), ("pruned", TrialState.PRUNED))
    }
    left_out = [
        plural(count, f"{kind} trial") for kind, count in counts.items() if count
    ]
    notes = [f"figures leave out {' and '.join(left_out)}"] if left_out else []
    for name, function in FIGURES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these functions experimental
            try:
                getattr(plots, function)(shown, target_name=MEASURE)
            except (ValueError, RuntimeError) as error:
                notes.append(f"{name} is left out: {first_line(error)}")
                continue
            finally:
                figures = [plt.figure(number) for number in plt.get_fignums()]
                plt.close("all")
        _turn_names(figures[-1])
        with replacing(folder / name) as scratch:
            figures[-1].savefig(scratch, dpi=150, bbox_inches="tight", format="png")
    return notes


def _turn_names(figure: "Figure") -> None:
    """Turn the names under axes, such as those of models, so that none overlap."""
    for axes in figure.axes:
        labels = axes.get_xticklabels()
        if any(re.search("[A-Za-z]{2}", label.get_text()) for label in labels):
            axes.tick_params("x", labelrotation=45)
            for label in labels:
                label.set(horizontalalignment="right", rotation_mode="anchor")


def _without_failures(study: "Study") -> "Study":
    """Return a study without the values of failed trials.

    In the storage, a failure counts as the worst accuracy, so that samplers avoid it.
    All trials keep their numbers.
    """
    import optuna

    found = optuna.create_study(directions=study.directions)
    for trial in study.get_trials(deepcopy=False):
        state = trial.user_attrs.get(RESULT, {}).get("state", COMPLETE)
        if state not in (COMPLETE, PRUNED):
            trial = optuna.trial.create_trial(
                state=optuna.trial.TrialState.FAIL,
                params=trial.params,
                distributions=trial.distributions,
            )
        found.add_trial(trial)
    return found

"""What classic methods reach on the digits split that `configs/digits.py` trains on.

    python benchmarks/digits_baselines.py

Pixels as they are, scikit-learn's defaults otherwise; the parameters of both methods
are chosen by 5-fold cross-validation on the training split alone.
"""

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Split, load

METHODS = {
    "k nearest neighbors": (
        KNeighborsClassifier(),
        {"n_neighbors": [1, 3, 5, 7], "weights": ["uniform", "distance"]},
    ),
    "SVM, RBF kernel": (
        SVC(),
        {"C": [1, 3, 10, 30], "gamma": list(np.array([0.5, 1, 2, 4]) / 64)},
    ),
}


def pixels(split: Split) -> np.ndarray:
    """`[N, 64]`, levels 0 to 16 scaled to deviations of about 1."""
    return split.images.reshape(len(split), -1) / 255 * 16 / 6


def main() -> None:
    splits = load(DataConfig("digits", validation=0))
    train, test = splits.train, splits.test
    table = Table("method", "parameters", "test accuracy", title="digits")
    for name, (method, grid) in METHODS.items():
        search = GridSearchCV(method, grid, cv=5).fit(pixels(train), train.labels)
        accuracy = search.score(pixels(test), test.labels)
        chosen = ", ".join(
            f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}"
            for k, v in search.best_params_.items()
        )
        table.add_row(name, chosen, f"{100 * accuracy:.2f} %")
    Console().print(table)


if __name__ == "__main__":
    main()

"""An image classifier with the interface of scikit-learn.

classifier = hybrid_jax.Classifier().fit(images, labels)
classifier.predict(other_images)              # labels, as they were given
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from ml_collections import ConfigDict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from hybrid_jax.config.estimator import PARAMETERS, choose_config, input_errors
from hybrid_jax.config.resolve import to_config_dict
from hybrid_jax.config.schema import Config, DataConfig
from hybrid_jax.data.sources.estimator_inputs import (
    LABELS,
    as_column,
    as_images,
    check_lengths,
    count_trained,
    find_classes,
    labels_from_json,
    labels_to_json,
)
from hybrid_jax.data.sources.given_images import as_new_images
from hybrid_jax.data.sources.label_checks import (
    check_groups,
    check_labels,
    encode_labels,
)
from hybrid_jax.data.sources.listed_files import ListedFiles
from hybrid_jax.engine.fit import fit
from hybrid_jax.errors import InvalidInput, UserError, escape
from hybrid_jax.json_files import read_json, write_json
from hybrid_jax.paths import check_folder, expand_user
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import load_run
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.saved_network import (
    ABOUT,
    WEIGHTS,
    load_network,
    save_network,
)
from hybrid_jax.weights.repository import find_pretrained

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Classifier(ClassifierMixin, BaseEstimator):
    """A scikit-learn estimator that trains an image classifier from scratch.

    It is meant for a few hundred to some ten thousand images. Images are uint8
    `[N, h, w]` or `[N, h, w, C]` with 1 or 3 channels, or a list of paths of image
    files. A parameter that is None keeps the value of the recipe.

    Args:
      model: name of a model, such as `coatnet_0`; `list_models` lists all names.
      config: the recipe that the other parameters change: a file, the name of an
        experiment such as `few_images`, or a `ConfigDict`. None takes the recipe of
        `folder`, with at least 40 epochs and 1,000 steps unless a length is given.
      epochs: length in passes over the training images.
      steps: length in updates of the weights; give either `epochs` or `steps`.
      batch_size: images per step.
      learning_rate: peak learning rate, reached at the end of warm-up.
      image_size: side in pixels, or `(height, width)`. None keeps images of 16 to 128
        px, enlarges smaller ones by a whole factor, and reduces larger ones. Images of
        several sizes become squares, whose side is the median of the shorter sides.
      symmetry: how training images are mirrored and rotated: `none`, `flip`, `flips`,
        `dihedral` or `rotation`; the recipe of `folder` has `flip`.
      validation: share of the images that is held out to choose the best weights; 0.1
        in the recipe of `folder`. 0 trains on all images. `fit` takes `groups`, such as
        patients, which are never divided.
      class_weight: `balanced` makes the images of rare classes count more.
      init_from: weights to start from: a `.safetensors` file, or a run's folder.
      random_state: seed of initialization, data order and augmentation.
      workdir: folder of the run. Repeat the same call to resume an interrupted run.
        None keeps everything in memory, as cross-validation and searches need it.
      verbose: whether progress is shown. Without it, a warning names what is left out,
        such as images that cannot be read.

    Attributes:
      classes_: sorted labels, in the order of the probabilities.
      run_: the trained `Run`.
      history_: rows of metrics, dicts with `split`, `step`, `epoch` and the metrics.
    """

    classes_: np.ndarray
    run_: Run
    history_: list[dict[str, Any]]

    def __init__(
        self,
        model: str | None = None,
        *,
        config: ConfigDict | Config | str | os.PathLike | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        image_size: int | tuple[int, int] | None = None,
        symmetry: str | None = None,
        validation: float | str | None = None,
        class_weight: str | None = None,
        init_from: str | os.PathLike | None = None,
        random_state: int | np.random.RandomState | None = 0,
        workdir: str | os.PathLike | None = None,
        verbose: bool = False,
    ):
        self.model = model
        self.config = config
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_size = image_size
        self.symmetry = symmetry
        self.validation = validation
        self.class_weight = class_weight
        self.init_from = init_from
        self.random_state = random_state
        self.workdir = workdir
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train on images.

        Args:
          X: images `[N, h, w]` or `[N, h, w, C]`, or paths `[N]`.
          y: labels `[N]` of any type, one distinct value per class.
          groups: group of each image, such as its patient, `[N]`; no group is divided
            between training and validation. None takes the images as independent.

        Returns:
          The classifier.

        Raises:
          ValueError: an argument is wrong; the message says what to change.
          OutOfMemory: a step does not fit into the memory of the device.
          KeyboardInterrupt: a signal came; with a workdir, the state is saved.
        """
        with input_errors():
            classes = find_classes(y := as_column(y))
            images = as_images(X)
            groups = None if groups is None else check_groups(groups, "")
            check_lengths(images, y, groups)
            if isinstance(images, np.ndarray):
                count, size = partial(count_trained, y, groups), images.shape[1:3]
                config = self._config(count, lambda _: [size])
                splits: Any = {"train": (images, y, groups)}
            else:
                files = ListedFiles(images, y, "X", groups)
                config = self._config(files.count_trained, files.sizes)
                splits = files.load(config.data)
            with self._labels_kept(classes):
                run = fit(config, splits, self.workdir, verbose=bool(self.verbose))
            self._adopt(run, classes)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each image, `[N]`."""
        best = self.predict_proba(X).argmax(1)
        found: np.ndarray = self.classes_[best]
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities float32 `[N, classes]`, in the order of `classes_`."""
        check_is_fitted(self, "run_")
        with input_errors():
            images: Any = as_new_images(X, self.run_.form, "X")
            found = self.run_.predict(images)
        return found[:, self._columns]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return scores float32 `[N, classes]`, whose softmax gives the probabilities.

        With two classes, return the log-odds `[N]` of the second class instead.
        """
        check_is_fitted(self, "run_")
        with input_errors():
            images: Any = as_new_images(X, self.run_.form, "X")
            found = self.run_.scores(images)
        scores = found[:, self._columns]
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of images whose label is predicted correctly.

        Args:
          X: images or paths `[N]`.
          y: their labels `[N]`.
          sample_weight: weight `[N]` of each image; None weights all alike.
        """
        with input_errors():
            labels = check_labels(as_column(y), "y")
        # scikit-learn refuses numbers in arrays of dtype object.
        predicted = check_labels(self.predict(X), "predicted")
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the classifier to a folder, for `load`: weights and JSON, no pickle.

        Raises:
          ValueError: the folder holds other files, or is not a local folder.
        """
        check_is_fitted(self, "run_")
        with input_errors():
            check_folder("folder", folder)
            path = expand_user(folder)
            if path.exists() and not path.is_dir():
                raise UserError(f"{escape(path)} is a file: give a folder")
            others = {*os.listdir(path)} if path.exists() else set()
            if others - {WEIGHTS, ABOUT}:
                raise UserError(
                    f"{escape(path)} holds other files: give a folder that is empty or "
                    "new, or that a classifier was saved to"
                )
            labels = {LABELS: labels_to_json(self.classes_)}
            save_network(self.run_, path, **labels)

    @classmethod
    def load(
        cls, workdir: str | os.PathLike, checkpoint: str | int | None = None
    ) -> Self:
        """Return the classifier that a folder holds.

        A warning names each checkpoint that is skipped or repaired. The `config` of the
        classifier is the one it was trained with. If `hybrid-jax train` trained it,
        its labels are the names of the classes.

        Args:
          workdir: folder of any run, or a folder that `save` wrote.
          checkpoint: `best`, `last` or a step of a run; None takes the one that was
            tested.

        Raises:
          ValueError: the folder holds no classifier, or it cannot be read.
        """
        with input_errors():
            check_folder("workdir", workdir)
            folder = expand_user(workdir)
            is_saved = (folder / WEIGHTS).exists() and not (
                folder / "checkpoints"
            ).exists()
            if is_saved and checkpoint is not None:
                raise UserError(
                    f"{escape(folder)} was saved with one checkpoint: leave "
                    f"checkpoint={checkpoint!r} out"
                )
            run = load_network(folder) if is_saved else load_run(folder, checkpoint)
            about = read_json(folder / ABOUT) if (folder / ABOUT).exists() else {}
            classes = labels_from_json(about.get(LABELS), run.classes, folder / ABOUT)
            found = cls(
                config=to_config_dict(run.config.flat()), random_state=run.config.seed
            )
            found._adopt(run, classes)
            _ = run.variables  # read here, before the folder may change
        return found

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, revision: str | None = None
    ) -> Self:
        """Return the classifier of a folder, or of a repository on Hugging Face's hub.

        Args:
          source: a folder that `save` or `hybrid-jax export --format=hub` wrote, or a
            run's folder. Or a repository such as `user/name`, to which a folder of the
            first two kinds was uploaded; weights and JSON are downloaded, but no code.
          revision: branch, tag or commit of the repository.

        Raises:
          ValueError: there is no such folder or repository, it cannot be read, or
            huggingface_hub is not installed.
        """
        with input_errors():
            folder = find_pretrained(source, revision, (WEIGHTS, ABOUT))
        return cls.load(folder)

    def plot_history(
        self, ax: "Axes | None" = None, metric: str = "accuracy"
    ) -> "Axes":
        """Plot a metric of the training and the validation images against the step.

        Args:
          ax: axes to draw in; None creates a figure.
          metric: `accuracy`, `loss`, or another metric of `history_`.

        Returns:
          The axes.

        Raises:
          ValueError: no row of these images in `history_` has the metric.
        """
        check_is_fitted(self, "run_")
        from hybrid_jax.plots import COLORS

        history = [row for row in self.history_ if row["split"] in _PLOTTED]
        rows = [row for row in history if isinstance(row.get(metric), (int, float))]
        if not rows:
            numbers = (k for row in history for k in row if k not in _ABOUT_ROWS)
            known = ", ".join(dict.fromkeys(numbers))
            raise InvalidInput(
                f"metric={metric!r} is not in history_ of {' or '.join(_PLOTTED)}: "
                f"give {known}"
            )
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots()
        for split, color in zip(_PLOTTED, COLORS, strict=False):
            points = [
                (row["step"], row[metric]) for row in rows if row["split"] == split
            ]
            if points:
                ax.plot(*zip(*points, strict=True), label=split, color=color)
        ax.set_xlabel("step")
        ax.set_ylabel(metric)
        ax.legend()
        return ax

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = True  # paths
        return tags

    def _config(
        self,
        images: Callable[[DataConfig], int],
        sizes: Callable[[DataConfig], Sequence[tuple[int, int]]],
    ) -> Config:
        """Return the config of a run; see `choose_config` for the arguments."""
        parameters = {name: getattr(self, name) for name in PARAMETERS}
        if not isinstance(self.random_state, (int, np.integer)):
            state = check_random_state(self.random_state)
            parameters["random_state"] = int(state.randint(2**31 - 1))
        if isinstance(self.init_from, os.PathLike):
            parameters["init_from"] = os.fspath(self.init_from)
        return choose_config(parameters, self.config, images, sizes)

    def _adopt(self, run: Run, classes: np.ndarray) -> None:
        """Store a trained run, and the sorted labels of its classes."""
        columns = encode_labels(classes, run.classes, "labels")
        if len(columns) != len(run.classes):
            raise UserError(
                f"there are {len(columns)} labels for the {len(run.classes)} classes "
                "of this run"
            )
        self.run_, self.classes_, self._columns = run, classes, columns
        self.history_ = run.history

    @contextlib.contextmanager
    def _labels_kept(self, classes: np.ndarray) -> Iterator[None]:
        """Write the labels into the workdir when the block ends, however it does.

        Raises:
          UserError: there is a workdir, and the labels cannot be written.
        """
        if self.workdir is None:
            yield
            return
        labels, folder = labels_to_json(classes), RunFolder(self.workdir)
        # The folder may hold another run, which is left unchanged.
        is_new = not folder.has_checkpoints()

        def write() -> None:
            if folder.has_checkpoints():
                write_json(folder.path / ABOUT, {LABELS: labels})

        try:
            yield
        except BaseException:  # such as divergence: its checkpoints stay
            if is_new:
                write()
            raise
        write()


_PLOTTED = ("train", "validation")  # the splits that `plot_history` draws
_ABOUT_ROWS = ("split", "step", "epoch", "class_accuracy", "seconds")

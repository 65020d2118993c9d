"""Hold a trained network, evaluate it, and predict with it.

run = hybrid_jax.load_run("runs/digits")
run.predict(images)                # probabilities [N, classes]
run.evaluate("test")               # loss, accuracy, top5
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax import data
from hybrid_jax.checkpoints.reader import Steps, steps_in_words
from hybrid_jax.config.schema import Config
from hybrid_jax.console import percent
from hybrid_jax.data.lazy_images import Files
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources import found_files, new_images
from hybrid_jax.data.sources.arrays import to_pixel_format
from hybrid_jax.data.sources.given_images import Pictures, as_new_images
from hybrid_jax.errors import UserError, closest, escape
from hybrid_jax.programs.experiment import Experiment, with_statistics
from hybrid_jax.programs.inference import Inference, batch_size_for
from hybrid_jax.runs import same_run, temperature, validation_scores
from hybrid_jax.runs.conformal import Conformal
from hybrid_jax.runs.given_split import given_split
from hybrid_jax.runs.lost_images import no_splits
from hybrid_jax.runs.prediction import Prediction
from hybrid_jax.runs.seen_images import notes_on_given
from hybrid_jax.runs.storage import RunStorage
from hybrid_jax.runs.temperature import check as check_temperature
from hybrid_jax.runs.unread_test import with_test_split
from hybrid_jax.training import metrics
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.step import Network


class Run:
    """A trained network, with the config, results and history of its training.

    Attributes:
      config: config of the experiment.
      network: the model, and how images are normalized.
      classes: class names, in the order of the probabilities.
      form: how images are decoded: size, channels, bits, fit and background.
      checkpoint: step of the weights; a tuple of steps if the weights are their mean.
      results: the chosen checkpoint and its metrics, also those of single images if
        this run averages over views; None if the run has not ended.
      history: rows of metrics, dicts with `split`, `step`, `epoch` and the metrics.
      workdir: the run's folder; None if there is none.
      manifest_sums: see `same_run`; they tell this run from a later one in its folder.
      notes: sentences about what was left out, skipped or repaired, such as images that
        cannot be read, or a damaged checkpoint.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        classes: Sequence[str],
        form: PixelFormat,
        checkpoint: Steps,
        variables: Callable[[], dict],
        splits: Callable[[], data.Splits],
        results: dict | None = None,
        history: Sequence[dict] = (),
        workdir: Path | None = None,
        notes: Sequence[str] = (),
    ):
        """Create a run; `variables` and `splits` are called when first needed."""
        self.config, self.network = config, network
        self.classes, self.form = tuple(classes), form
        self.checkpoint, self.results = checkpoint, results
        self.history, self.workdir, self.notes = [*history], workdir, [*notes]
        self._load_variables, self._load_splits = variables, splits
        self.manifest_sums = same_run.manifest_sums(workdir, checkpoint)

    @classmethod
    def from_experiment(
        cls,
        experiment: Experiment,
        folder: RunStorage,
        load_variables: Callable[[int], dict],
        results: dict,
        history: Sequence[dict],
    ) -> "Run":
        """Return the run of an experiment that has ended."""
        splits, step = experiment.splits, results["checkpoint"]
        statistics = folder.statistics(splits)
        return cls(
            config=experiment.config,
            network=with_statistics(experiment.task.network, statistics),
            classes=splits.classes,
            form=splits.form,
            checkpoint=step,
            variables=functools.partial(load_variables, step),
            splits=lambda: splits,
            results=results,
            history=history,
            workdir=folder.path,
        )

    def __repr__(self) -> str:
        results = self.own_results
        reached = [
            f"{split} accuracy {percent(results[split]['accuracy'])}"
            for split in ("validation", "test")
            if split in results
        ]
        about = [
            f"{self.config.model.name} on {escape(self.config.data.title)}",
            f"{len(self.classes)} classes",
            self.weights_in_words,
        ]
        return f"<Run: {', '.join(about + reached)}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle contains: NumPy arrays, but no programs or images."""
        public = {name for name in vars(self) if name[0] != "_"} - {"splits"}
        state = {name: getattr(self, name) for name in public}
        arrays = {"network": self.network, "variables": self.variables}
        return state | jax.tree.map(np.asarray, arrays)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._load_variables = functools.partial(dict, state["variables"])
        self._load_splits = no_splits

    @property
    def model(self) -> Any:
        """Return the Flax module: `model.apply(run.variables, normalized_images)`."""
        return self.network.model

    @property
    def has_views(self) -> bool:
        """Return whether logits are averaged over the views of each image."""
        return bool(self.network.views != "none")

    @property
    def weights_in_words(self) -> str:
        """Return which weights predict: `step 1,200`, perhaps averaged over views."""
        views = ", averaged over views" if self.has_views else ""
        return steps_in_words(self.checkpoint) + views

    @property
    def own_results(self) -> dict[str, Any]:
        """Return the results of these very weights; empty if others were tested."""
        done = self.results or {}
        is_tested = done.get("checkpoint") == self.checkpoint and not self.has_views
        return done if is_tested else {}

    @functools.cached_property
    def variables(self) -> dict:
        """Return parameters and batch statistics, averaged if the run did so."""
        return self._load_variables()

    @functools.cached_property
    def validation_metrics(self) -> dict[str, Any] | None:
        """Return those of the validation split; see `temperature.find_metrics`."""
        return temperature.find_metrics(self)

    @functools.cached_property
    def temperature(self) -> float | None:
        """Return the temperature that validation chose for these weights, or None.

        Dividing log probabilities by it calibrates the probabilities.
        """
        return temperature.find(self)

    @functools.cached_property
    def conformal(self) -> Conformal:
        """Return an object that computes prediction sets and typicality from scores.

        Raises:
          UserError: the run has no validation images, or they are not available.
        """
        return validation_scores.find(self)

    @functools.cached_property
    def splits(self) -> data.Splits:
        """Return the splits that the run's config names, or that it was given.

        Raises:
          UserError: the splits are not available.
        """
        return self._load_splits()

    @functools.cached_property
    def _splits_and_test(self) -> data.Splits:
        return with_test_split(self.splits, self.config)

    def evaluate(
        self,
        images: str | np.ndarray | Sequence[Any] | data.Split = "test",
        labels: Any = None,
    ) -> dict[str, metrics.Number]:
        """Return loss, accuracy and other metrics on a split of the run, or on others.

        Args:
          images: `train`, `validation` or `test`; or a `Split` from `open_images`; or
            images like those of `predict`.
          labels: class names `[N]` of images in an array or a list; otherwise None.

        Raises:
          UserError: there is no such split, or images and labels do not fit the run.
        """
        return self._inference.evaluate(given_split(self, images, labels))

    def predict(
        self,
        images: np.ndarray | Sequence[Any],
        batch_size: int = 256,
        temperature: float = 1.0,
    ) -> np.ndarray:
        """Return probabilities float32 `[N, classes]`, in the order of `classes`.

        Args:
          images: uint8 `[N, h, w, C]` or `[N, h, w]`, gray or color, of any size; or a
            list of such arrays, of images of Pillow, or of image files. All are
            converted to the run's pixel format alike.
          batch_size: images at a time.
          temperature: divides log probabilities, such as `run.temperature`.

        Raises:
          UserError: the images have another shape or dtype, there are none, or a file
            cannot be read.
        """
        return np.concatenate(
            [
                self._probabilities(part, temperature)
                for part in self._logits_of(images, batch_size)
            ]
        )

    def scores(
        self,
        images: np.ndarray | Sequence[Any] | data.Split,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Return scores float32 `[N, classes]`, whose softmax gives the probabilities.

        With the softmax loss, they are the logits.

        Args:
          images: like those of `predict`; or a split.
          batch_size: images at a time; a split takes `train.eval_batch_size` instead.

        Raises:
          UserError: the images have another shape or dtype, there are none, or a file
            cannot be read.
        """
        parts: Iterable[np.ndarray]
        if isinstance(images, data.Split):
            parts = [self._inference.split_logits(given_split(self, images))]
        else:
            parts = self._logits_of(images, batch_size)
        return np.concatenate([*map(self._scores, parts)])

    def predict_files(
        self,
        paths: Iterable[str | os.PathLike],
        batch_size: int = 256,
        temperature: float = 1.0,
    ) -> Iterator[Prediction]:
        """Predict image files, in their order, a batch at a time.

        Args:
          paths: image files; `data.sources.found_files.find_files` lists those of
            folders.
          batch_size: images at a time.
          temperature: divides log probabilities, such as `run.temperature`.

        Yields:
          A `Prediction` for each file; that of an unreadable file has the error.
        """
        for found, _ in self.predict_with_scores(paths, batch_size, temperature):
            yield from found

    def predict_with_scores(
        self,
        paths: Iterable[str | os.PathLike],
        batch_size: int = 256,
        temperature: float = 1.0,
    ) -> Iterator[tuple[list[Prediction], np.ndarray]]:
        """Predict image files, and return their scores too; see `predict_files`.

        Yields:
          Predictions of a batch, and the scores float32 `[n, classes]` of its images.
        """
        files = Files(found_files.as_paths(paths))
        for batch, logits in self._logits_of_records(files, batch_size):
            found = self._probabilities(logits, temperature)
            rows = [
                None if e else row for row, e in zip(found, batch.errors, strict=True)
            ]
            about = batch.names, rows, batch.errors, batch.differences
            predictions = map(Prediction, *about)
            yield [*predictions], self._scores(logits)

    def open_images(
        self, path: str | os.PathLike, split: str = "", on_error: str = "stop"
    ) -> data.Split:
        """Return other labeled images of the run's classes, for `evaluate`.

        Args:
          path: a folder with one folder per class, or a table.
          split: `train`, `validation` or `test`, if the images are split.
          on_error: `stop` at images that cannot be read, or `skip` them.

        Raises:
          UserError: there are no such images, or some have a class unknown to the run.
        """
        return self.open_named_images(path, split, on_error)[1]

    def open_named_images(
        self, path: str | os.PathLike, split: str, on_error: str
    ) -> tuple[str, data.Split]:
        """Return the split's name, empty if there are no splits, and `open_images`."""
        place, own = os.fspath(path), self.config.data
        how = on_error, own.loader, own.group
        found = new_images.load_labeled(place, self.form, self.classes, split, *how)
        known = self.workdir, own.name == "folder", lambda: self.splits
        self.notes += (*found.notes, *notes_on_given(found.split, *known))
        return found.split_name, found.split

    def get_split(self, name: str) -> data.Split:
        """Return one of the run's splits; the test split also if it was left unread.

        Raises:
          UserError: there is no split of this name, or its images are not available.
        """
        splits = self._splits_and_test if name == "test" else self.splits
        if name not in splits:
            raise UserError(
                f"this run has no split {name!r}{closest(name, splits)}: there are "
                f"{', '.join(splits)}"
            )
        return splits[name]

    def log_probabilities(self, split: data.Split) -> np.ndarray:
        """Return log probabilities float32 `[N, classes]` of a split, by `classes`."""
        logits = self._inference.split_logits(given_split(self, split))
        loss = LOSSES[self.network.loss.name]
        return np.asarray(loss.log_probabilities(jnp.asarray(logits)))

    @functools.cached_property
    def _inference(self) -> Inference:
        return Inference(self.config, self.network, self.variables)

    def _logits_of(
        self, images: np.ndarray | Sequence[Any], batch_size: int
    ) -> Iterator[np.ndarray]:
        """Yield logits float32 `[n, classes]` of images or files, batch by batch."""
        found = as_new_images(images, self.form)
        if isinstance(found, np.ndarray):
            yield from self._logits_of_array(found, batch_size)
            return
        for batch, logits in self._logits_of_records(found, batch_size):
            batch.check_readable()
            yield logits

    def _logits_of_array(
        self, images: np.ndarray, batch_size: int
    ) -> Iterator[np.ndarray]:
        """Yield logits float32 `[n, classes]` of images of any size, batch by batch."""
        images, extents = to_pixel_format(images, new_images.with_canvas(self.form))
        batch_size = batch_size_for(batch_size, len(images))
        for i in range(0, len(images), batch_size):
            rows = slice(i, i + batch_size)
            part = None if extents is None else extents[rows]
            numbers = range(len(images))[rows]
            yield self._inference.logits(images[rows], part, batch_size, numbers)

    def _logits_of_records(
        self, records: Files | Pictures, batch_size: int
    ) -> Iterator[tuple[new_images.Batch, np.ndarray]]:
        """Yield batches of images, each with its logits float32 `[n, classes]`."""
        batch_size = batch_size_for(batch_size, len(records))
        for batch in new_images.decode_batches(records, self.form, batch_size):
            found = batch.images, batch.extents, batch_size, batch.names
            yield batch, self._inference.logits(*found)

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        """Return scores float32 `[n, classes]` of logits."""
        return np.asarray(LOSSES[self.network.loss.name].scores(jnp.asarray(logits)))

    def _probabilities(self, logits: np.ndarray, temperature: float) -> np.ndarray:
        """Return probabilities float32 `[n, classes]` of logits."""
        divisor = check_temperature(temperature)
        loss, given = LOSSES[self.network.loss.name], jnp.asarray(logits)
        if divisor == 1.0:
            return np.asarray(loss.probabilities(given))
        return np.asarray(jax.nn.softmax(loss.log_probabilities(given) / divisor))

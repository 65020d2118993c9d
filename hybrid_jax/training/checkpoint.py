"""Checkpoints: the newest few and the best, written while training goes on (orbax)."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping

from hybrid_jax.errors import UserError, first_line
from hybrid_jax.training.bundles import rebundled, unbundled
from hybrid_jax.training.state import TrainState

BEST_METRIC = "accuracy"


class Checkpoints:
    """The folder of a run's checkpoints; a context manager that waits for writing."""

    def __init__(self, folder: Path, keep: int, read_only: bool = False):
        """`keep` newest ones stay, and the one of the best test accuracy.

        Raises:
          UserError: a step there is damaged.
        """
        logging.getLogger("absl").setLevel(logging.ERROR)
        best = keeping.BestN(get_metric_fn=_rank, n=1)
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keeping.AnyPreservationPolicy(
                [keeping.LatestN(keep), best]
            ),
            best_fn=_rank,  # without it orbax writes no metrics
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except (ValueError, KeyError) as error:  # it reads the metrics of every step
            raise UserError(
                f"{self.folder} holds a step whose metrics cannot be read "
                f"({first_line(error)}): delete the newest step's folder to continue "
                "from the one before"
            ) from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, metrics: dict[str, float]) -> None:
        """Starts writing a step and returns; `metrics` decide which is best.

        On disk no vectors are bundled, so that any network's can be read without it.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(unbundled(_fetched(state)))
            ),
            metrics=metrics,
        )

    def wait(self) -> None:
        """Returns when everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of a step, with the structure and shapes of `like`.

        Raises:
          UserError: it cannot be read; says how to go on from the one before.
        """
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        template = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(unbundled, like),
        )
        state = self._read(step, ocp.args.StandardRestore(template))
        return jax.tree.map(jnp.asarray, rebundled(_fetched(state), like))

    def _read(self, step: int, how: ocp.args.StandardRestore):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(state=how))[
                "state"
            ]
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be read "
                f"({first_line(error)}): delete that folder to continue from the one "
                "before"
            ) from None

    def evaluated(self, step: int) -> dict:
        """The variables that a step is evaluated with, whatever network they are of.

        Raises:
          UserError: as `restore`.
        """
        state = self._read(step, ocp.args.StandardRestore())
        return state["average"] or {
            "params": state["params"],
            "batch_stats": state["batch_stats"],
        }

    def metrics(self, step: int) -> dict[str, float]:
        """What was saved with a step."""
        return dict(self._manager.metrics(step))

    def best(self) -> tuple[int, dict[str, float]]:
        """The step of the best test accuracy among those kept, and its metrics."""
        saved = {step: self.metrics(step) for step in self._manager.all_steps()}
        step = max(saved, key=lambda step: _rank(saved[step]))
        return step, saved[step]


def _fetched(state: TrainState) -> TrainState:
    """The state with its vectors in NumPy, which needs no program to cut or join them.

    They are copied, since the next step takes the state's own memory.
    """
    return jax.tree.map(lambda x: np.array(x) if x.ndim == 1 else x, state)


def _rank(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]

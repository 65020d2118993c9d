"""Schedule of a run: its length, its evaluations and its learning rates."""

import math

import jax
import numpy as np

from hybrid_jax.config.field import as_typed
from hybrid_jax.config.schema import Config, TrainConfig
from hybrid_jax.config.suggestions import shorter_warmup, warmup_field
from hybrid_jax.errors import UserError, plural
from hybrid_jax.training import schedules

MOST_STEPS = 2**27  # of a run; the learning rate of each takes 4 bytes
FEWEST_RATES = 1024  # of a table of learning rates


class Plan:
    """The length of a run, in steps and in epochs, and when it is evaluated.

    Attributes:
      images: number of training images.
      batch_size: images per step.
      epochs: passes over the split; rarely a whole number if the config counts steps.
      total_steps: steps of the run.
    """

    def __init__(self, config: TrainConfig, images: int):
        """Plan the run of a config on `images` training images.

        Raises:
          UserError: the run has too many steps.
        """
        self.images = images
        self.batch_size = config.batch_size
        self.total_steps = config.steps or self.step_of(config.epochs)
        if self.total_steps > MOST_STEPS:
            field = "steps" if config.steps else "epochs"
            raise UserError(
                f"config.train.{field}={getattr(config, field)} makes "
                f"{self.total_steps:,} steps, and a run has at most {MOST_STEPS:,}: "
                "give less"
            )
        self.epochs: float = config.epochs
        if config.steps:
            self.epochs = config.steps * config.batch_size / images
        self._eval_every = config.eval_every
        self._eval_every_steps = config.eval_every_steps

    def step_of(self, epoch: float) -> int:
        """Return the number of steps that complete `epoch` passes over the split."""
        steps = epoch * self.images / self.batch_size
        return math.ceil(round(steps, 6))  # 2.2 * 450 is 990.0000000000001

    def epoch_of(self, step: int) -> float:
        """Return the passes over the split after a step."""
        return min(step * self.batch_size / self.images, self.epochs)

    def is_evaluated(self, step: int) -> bool:
        """Return whether an evaluation and a checkpoint follow a step."""
        return step > 0 and self.next_evaluation(step - 1) == step

    def next_evaluation(self, step: int) -> int:
        """Return the first step after `step` that an evaluation follows."""
        if every := self._eval_every_steps:
            return min((step // every + 1) * every, self.total_steps)
        between = self._eval_every * self.images  # images from one to the next
        epoch = (step * self.batch_size // between + 1) * self._eval_every
        return min(self.step_of(epoch), self.total_steps)

    def count_evaluations(self) -> int:
        """Count the evaluations of the whole run."""
        count = step = 0
        while step < self.total_steps:
            step = self.next_evaluation(step)
            count += 1
        return count


def check_lookahead(config: Config, plan: Plan) -> None:
    """Refuse Lookahead whose slow weights, which are evaluated, would never change.

    Raises:
      UserError: names the field.
    """
    steps = config.optim.lookahead_steps
    if steps > plan.total_steps:
        raise UserError(
            f"config.optim.lookahead_steps={steps} is more than the run's "
            f"{plural(plan.total_steps, 'step')}, so the weights that are evaluated "
            "would stay those of the start: give fewer, such as 5"
        )


def schedule_lengths(config: Config, plan: Plan) -> schedules.Lengths:
    """Return the steps of warm-up, of the run, and of each decay of the rate.

    Raises:
      UserError: warm-up takes all steps, or a decay is not between it and the end.
    """
    optim = config.optim
    warmup = optim.warmup_steps or plan.step_of(optim.warmup_epochs)
    if warmup >= plan.total_steps:
        length = optim.warmup_steps or optim.warmup_epochs
        way_out = (
            f"lower config.train.batch_size ({plan.batch_size}) or "
            f"{warmup_field(config)} ({length})"
        )
        if config.train.steps:
            way_out = f"shorten it, with {shorter_warmup(config.train.steps)}"
        raise UserError(
            f"warm-up takes all of the run's {plural(plan.total_steps, 'step')}: "
            f"{way_out}"
        )
    decays = tuple(plan.step_of(epoch) for epoch in optim.decay_epochs)
    for epoch, step in zip(optim.decay_epochs, decays, strict=True):
        if not warmup < step < plan.total_steps:
            given = f"config.optim.decay_epochs={as_typed(optim.decay_epochs)}"
            raise UserError(
                f"{given} has {epoch}, but the learning rate can fall only between "
                f"epoch {plan.epoch_of(warmup):g}, where warm-up ends, and "
                f"{plan.epochs:g}, where the run ends"
            )
    return schedules.Lengths(warmup, plan.total_steps, decays)


def learning_rates(config: Config, plan: Plan) -> np.ndarray:
    """Return the learning rate of each step, float32.

    The array ends with copies of the last rate. Its length is a power of two, so that
    runs of similar lengths share a program.

    Raises:
      UserError: the schedule does not fit the run, see `schedule_lengths`.
    """
    create_schedule = schedules.SCHEDULES[config.optim.schedule]
    schedule = create_schedule(config.optim, schedule_lengths(config, plan))
    length = max(FEWEST_RATES, 2 ** math.ceil(math.log2(plan.total_steps)))
    steps = np.minimum(np.arange(length), plan.total_steps - 1)
    # A schedule need only take single steps: that of one_cycle takes no arrays.
    return np.asarray(jax.jit(jax.vmap(schedule))(steps), np.float32)

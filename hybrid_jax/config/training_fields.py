"""Fields of training: what is minimized, how weights change, and for how long.

`hybrid_jax.config.schema` puts the groups together.
"""

import dataclasses

from hybrid_jax.config import rules
from hybrid_jax.config.field import field
from hybrid_jax.config.rules import Rule


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What training minimizes."""

    name: str = field(
        "softmax",
        rules.row_of("hybrid_jax.training.losses:LOSSES"),
        "cross-entropy over all classes (softmax), of each (sigmoid), or focal",
    )
    label_smoothing: float = field(
        0.1, rules.RATE, "share of a label's mass that all classes get alike"
    )
    class_weights: str = field(
        "none",
        rules.row_of("hybrid_jax.training.losses:CLASS_WEIGHTS"),
        "of each class in the loss; balanced favors rare classes",
    )
    focal_gamma: float = field(
        2.0, rules.NOT_NEGATIVE, "of focal: exponent that makes easy classes count less"
    )


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How weights are updated."""

    name: str = field(
        "adamw",
        rules.row_of("hybrid_jax.training.optimizers:OPTIMIZERS"),
        "what updates weights; learning rates start at 1e-3 for adamw, 0.1 for sgd",
    )
    learning_rate: float = field(1e-3, rules.POSITIVE, "peak, at the end of warm-up")
    schedule: str = field(
        "cosine",
        rules.row_of("hybrid_jax.training.schedules:SCHEDULES"),
        "how the learning rate falls after warm-up",
    )
    warmup_epochs: float = field(
        5.0, rules.NOT_NEGATIVE, "epochs in which the learning rate rises"
    )
    warmup_steps: int = field(
        0, rules.whole_number(0), "the same in steps; 0 goes by warmup_epochs"
    )
    decay_epochs: tuple[float, ...] = field(
        (), rules.EPOCHS, "of step: epochs after which the learning rate falls"
    )
    decay_factor: float = field(
        0.1, rules.FACTOR, "of step: factor of the learning rate at each fall"
    )
    weight_decay: float = field(
        0.05,
        rules.NOT_NEGATIVE,
        "of weights, not of biases and norms; for sgd try 5e-4",
    )
    momentum: float = field(0.9, rules.RATE, "of sgd: Nesterov momentum")
    layer_decay: float = field(
        1.0, rules.FACTOR, "of the learning rate from a layer to the one before it"
    )
    clip_norm: float = field(1.0, rules.NOT_NEGATIVE, "global gradient norm; 0 is off")
    sam_rho: float = field(
        0.0, rules.NOT_NEGATIVE, "radius of SAM (sharpness), such as 0.05; 0 is off"
    )
    lookahead_steps: int = field(
        0,
        rules.whole_number(0),
        "of Lookahead, between moves of the slow weights; 0 is off",
    )
    ema_decay: float = field(
        0.999,
        rules.RATE,
        "of the averaged weights that are evaluated; 0 averages none",
    )
    accumulate: int = field(
        1,
        rules.whole_number(1),
        "micro-batches a step; each is batch_size / accumulate images",
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run is, and what it writes."""

    epochs: int = field(100, rules.whole_number(1), "passes over the training split")
    steps: int = field(
        0,
        rules.whole_number(0),
        "updates of the weights, however many images there are; 0 goes by epochs",
    )
    batch_size: int = field(128, rules.whole_number(1), "images a step")
    micro_batch: str = field(
        "auto",
        Rule("auto or off", lambda v: v in ("auto", "off", "")),
        "auto adds up gradients of as many images at a time as fit into memory",
        free=True,
    )
    sampling: str = field(
        "uniform",
        rules.row_of("hybrid_jax.data.sampler:SAMPLINGS"),
        "of images, or of classes first",
    )
    scan: str = field(
        "auto",
        rules.one_of("auto", "on", "off"),
        "compile alike blocks once, and loop over them; auto does on accelerators",
        free=True,
    )
    remat: str = field(
        "none",
        rules.one_of("none", "products", "full"),
        "what backward computes again, to save memory: all but products, or all",
        free=True,
    )
    eval_every: int = field(
        1,
        rules.whole_number(1),
        "epochs between checkpoints, and evaluations",
        free=True,
    )
    eval_every_steps: int = field(
        0,
        rules.whole_number(0),
        "the same in steps; 0 goes by eval_every",
        free=True,
    )
    eval_batch_size: int = field(
        256, rules.whole_number(1), "images a device pass", free=True
    )
    log_every: int = field(
        50, rules.whole_number(1), "steps between lines of metrics", free=True
    )
    checkpoint: str = field(
        "best",
        rules.one_of("best", "last"),
        "whose weights are tested: the best on validation, or the last",
    )
    patience: int = field(
        0,
        rules.whole_number(0),
        "evaluations without a better one that end a run; 0 is off",
    )
    non_finite: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at a loss that is not finite: end, or go back and leave two batches out",
        free=True,
    )
    max_skips: int = field(
        3, rules.whole_number(1), "how often to go back, at most", free=True
    )
    keep: int = field(
        2, rules.whole_number(2), "newest checkpoints kept, beside the best", free=True
    )
    report: bool = field(
        True,
        rules.SWITCH,
        "write report.html, a page about the run, when `train` has ended it",
        free=True,
    )

"""Config fields about training: the loss, the optimizer, and the length of a run.

`hybrid_jax.config.schema` joins all groups of fields.
"""

import dataclasses

from hybrid_jax.config import rules
from hybrid_jax.config.field import field
from hybrid_jax.config.rules import Rule
from hybrid_jax.models.field_checks import ONE_OF


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss that training minimizes."""

    name: str = field(
        "softmax",
        rules.row_of("hybrid_jax.training.losses:LOSSES"),
        "softmax is cross-entropy over all classes, sigmoid is binary cross-entropy of "
        "each class, focal is like sigmoid but easy classes count less",
    )
    label_smoothing: float = field(
        0.1,
        rules.RATE,
        "share of a label's probability that is spread evenly over all classes",
    )
    class_weights: str = field(
        "none",
        rules.row_of("hybrid_jax.training.losses:CLASS_WEIGHTS"),
        "weight of each class in the loss; balanced gives rare classes more weight",
    )
    focal_gamma: float = field(
        2.0,
        rules.NOT_NEGATIVE,
        "for name=focal: exponent; a larger one makes easy classes count less",
    )


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimizer, its learning rate, and what goes around it."""

    name: str = field(
        "adamw",
        rules.row_of("hybrid_jax.training.optimizers:OPTIMIZERS"),
        "optimizer; first learning rates to try are 1e-3 for adamw, 5e-3 for muon, and "
        "0.1 for sgd",
    )
    learning_rate: float = field(
        1e-3, rules.POSITIVE, "peak learning rate, at the end of warm-up"
    )
    schedule: str = field(
        "cosine",
        rules.row_of("hybrid_jax.training.schedules:SCHEDULES"),
        "how the learning rate falls after warm-up",
    )
    warmup_epochs: float = field(
        5.0,
        rules.NOT_NEGATIVE,
        "length of warm-up in epochs, while the learning rate rises",
    )
    warmup_steps: int = field(
        0,
        rules.whole_number(0),
        "length of warm-up in steps; 0 uses warmup_epochs instead",
    )
    decay_epochs: tuple[float, ...] = field(
        (),
        rules.EPOCHS,
        "for schedule=step: epochs after which the learning rate falls",
    )
    decay_factor: float = field(
        0.1, rules.FACTOR, "for schedule=step: factor of the learning rate at each fall"
    )
    weight_decay: float = field(
        0.05,
        rules.NOT_NEGATIVE,
        "weight decay, which leaves out biases and norms; for sgd try 5e-4",
    )
    momentum: float = field(0.9, rules.RATE, "for name=sgd: Nesterov momentum")
    layer_decay: float = field(
        1.0,
        rules.FACTOR,
        "factor of the learning rate from each layer to the layer before it; 1 is off",
    )
    clip_norm: float = field(
        1.0, rules.NOT_NEGATIVE, "largest global gradient norm; 0 is off"
    )
    sam_rho: float = field(
        0.0,
        rules.NOT_NEGATIVE,
        "radius of SAM (sharpness-aware minimization), such as 0.05; 0 is off",
    )
    lookahead_steps: int = field(
        0,
        rules.whole_number(0),
        "steps between updates of the slow weights of Lookahead; 0 is off",
    )
    ema_decay: float = field(
        0.999,
        rules.RATE,
        "decay of the moving average of the weights, which is evaluated; 0 is off",
    )
    accumulate: int = field(
        1,
        rules.whole_number(1),
        "micro-batches in a step, whose gradients are added up; each has batch_size / "
        "accumulate images",
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of a run, its batches, and what it writes."""

    epochs: int = field(100, rules.whole_number(1), "passes over the training split")
    steps: int = field(
        0,
        rules.whole_number(0),
        "length of the run in steps (updates of the weights); 0 uses epochs instead",
    )
    batch_size: int = field(128, rules.whole_number(1, bits=20), "images in a step")
    micro_batch: str = field(
        "auto",
        Rule("auto or off", lambda v: v in ("auto", "off", "")),
        "auto splits a batch that does not fit into memory, and adds up gradients; off "
        "stops with an error",
        free=True,
    )
    sampling: str = field(
        "uniform",
        rules.row_of("hybrid_jax.data.sampler:SAMPLINGS"),
        "uniform draws every image once an epoch, balanced draws classes equally often",
    )
    scan: str = field(
        "auto",
        rules.one_of(*ONE_OF["scan"]),
        "on compiles equal blocks once and loops over them; auto does so on "
        "accelerators",
        free=True,
    )
    remat: str = field(
        "none",
        rules.one_of(*ONE_OF["remat"]),
        "what the backward pass recomputes, to save memory: products is all but matrix "
        "products, full is everything",
        free=True,
    )
    kernels: str = field(
        "xla",
        rules.one_of(*ONE_OF["kernels"]),
        "what computes a norm and the depthwise convolution after it in training: xla "
        "is two operations, pallas one, for GPUs, which moves fewer bytes",
        free=True,
    )
    eval_every: int = field(
        1,
        rules.whole_number(1),
        "epochs between evaluations; each also saves a checkpoint",
        free=True,
    )
    eval_every_steps: int = field(
        0,
        rules.whole_number(0),
        "steps between evaluations; 0 uses eval_every instead",
        free=True,
    )
    eval_batch_size: int = field(
        256, rules.whole_number(1), "images in a batch of evaluation", free=True
    )
    log_every: int = field(
        50, rules.whole_number(1), "steps between lines of training metrics", free=True
    )
    checkpoint: str = field(
        "best",
        rules.one_of("best", "last"),
        "checkpoint whose weights are tested: the best on validation, or the last",
    )
    patience: int = field(
        0,
        rules.whole_number(0),
        "a run ends after so many evaluations without a new best; 0 is off",
    )
    non_finite: str = field(
        "stop",
        rules.one_of("stop", "skip"),
        "at a loss that is not finite: stop ends the run, skip goes back to a "
        "checkpoint and leaves out two batches",
        free=True,
    )
    max_skips: int = field(
        3,
        rules.whole_number(1),
        "for non_finite=skip: how often a run goes back after each start, at most",
        free=True,
    )
    keep: int = field(
        2,
        rules.whole_number(2),
        "number of newest checkpoints to keep, beside the best",
        free=True,
    )
    report: bool = field(
        True,
        rules.SWITCH,
        "write report.html, a page about the run, when `hybrid-jax train` ends",
        free=True,
    )

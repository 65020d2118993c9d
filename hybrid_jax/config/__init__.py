"""The config of an experiment: its fields, its files, and what they resolve to."""

from hybrid_jax.config.resolve import default, validate

__all__ = ["default", "validate"]

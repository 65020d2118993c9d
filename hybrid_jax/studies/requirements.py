"""Check what runs must have in common before they can be compared."""

from hybrid_jax.data import Splits
from hybrid_jax.errors import UserError
from hybrid_jax.studies.kind import Configs


def require_equal_budgets(configs: Configs) -> None:
    """Refuse models that are not trained for equally many steps of equal batches.

    Raises:
      UserError: names the field that differs, and its values.
    """
    for name in ("train.steps", "train.epochs", "train.batch_size"):
        flat = [config.flat() for config in configs.values()]
        if name == "train.epochs" and all(values["train.steps"] for values in flat):
            continue
        found = sorted({values[name] for values in flat})
        if len(found) > 1:
            raise UserError(
                f"the models are trained with config.{name} of "
                f"{' and '.join(map(str, found))}: give all the same value, such as "
                f"--config.{name}={found[-1]}"
            )


def require_test_split(splits: Splits) -> None:
    """Refuse data without a test split.

    Raises:
      UserError: there is no test split.
    """
    if "test" not in splits:
        raise UserError(
            f"{splits.name} has no test split, which this study measures on: give it "
            "one (a folder `test`, say, or config.data.test_fraction)"
        )

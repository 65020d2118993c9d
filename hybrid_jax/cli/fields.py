"""List the settings of an experiment, which --config.FIELD=VALUE changes.

  hybrid-jax fields
  hybrid-jax fields augment
  hybrid-jax fields learning_rate

The first lists all fields, the second a group of fields. The third lists the
fields with this text in their names, or else in their descriptions (patterns
such as '*_size' work too). Every field is shown with its default, what it
means, and what is allowed. A file of configs/ may set other defaults.
"""

import fnmatch
import textwrap

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.errors import UserError

COLUMNS = 80


def run(call: Call) -> None:
    """Prints the fields that a command line asks for.

    Raises:
      UserError: there are none like that; says which are near.
    """
    # Imported where it is needed: help is instant.
    from hybrid_jax.cli.flags import parse_plain

    words = parse_plain(call.arguments, (), places=1).others
    found = matching(*words)
    print("\n\n".join(map(describe, found)), flush=True)


def matching(text: str = "") -> list[str]:
    """Returns the fields that a text stands for; empty stands for all.

    Args:
      text: a group, a field, a shell pattern, or a part of names or of descriptions.

    Raises:
      UserError: there are none; says which are near.
    """
    from hybrid_jax.config.schema import FIELDS
    from hybrid_jax.config.suggestions import unknown_field

    name = text.removeprefix("--").removeprefix("config.").rstrip(".")
    for pattern in (name, f"{name}.*", f"*.{name}", f"*{name}*"):
        if found := fnmatch.filter(FIELDS, pattern):
            return found
    found = [field for field, row in FIELDS.items() if name in row.meaning]
    if not found:
        raise UserError(f"{unknown_field(name)} (`hybrid-jax fields` lists all)")
    return found


def describe(name: str) -> str:
    """Returns a field with its default, meaning, and allowed values, in some lines."""
    from hybrid_jax.config.schema import FIELDS

    field = FIELDS[name]
    texts = map(_indented, (field.meaning, f"allowed: {field.rule.words}"))
    return "\n".join([f"--config.{name}={_typed(field.default)}", *texts])


def _typed(default: object) -> str:
    """Returns a default as a user types it."""
    if default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _indented(text: str) -> str:
    return textwrap.fill(
        text, COLUMNS, initial_indent="    ", subsequent_indent="      "
    )


COMMAND = Command(__doc__.strip(), run, "nothing was written")

"""List the fields of an experiment, which --config.FIELD=VALUE changes.

  hybrid-jax fields
  hybrid-jax fields augment
  hybrid-jax fields learning_rate

The first lists all fields, the second a group of fields. The third lists the
fields with this text in their names, or else in their meanings (patterns such
as '*_size' work too). Every field is listed with its default, its meaning and
its allowed values. The file of an experiment may set other values.

  --flagfile=FILE  read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import fnmatch
import textwrap

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.errors import UserError

COLUMNS = 80


def run(call: Call) -> None:
    """Print the fields that a command line asks for.

    Raises:
      UserError: there is no such field; names similar fields.
    """
    # Imported here, so that help is instant.
    from hybrid_jax.cli.flags import parse

    words = parse(call.arguments, (), most=1).positional
    print("\n\n".join(map(format_field, matching(*words))), flush=True)


def matching(text: str = "") -> list[str]:
    """Return the names of the fields that a text matches.

    Args:
      text: a group, a field, a shell pattern, or a part of names or of meanings; empty
        matches all fields.

    Raises:
      UserError: there is no such field; names similar fields.
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


def format_field(name: str) -> str:
    """Return lines with a field's default, meaning and allowed values."""
    from hybrid_jax.config.schema import FIELDS

    field = FIELDS[name]
    default = "" if field.default == () else str(field.default)
    if isinstance(field.default, bool):
        default = default.lower()
    wrap = textwrap.TextWrapper(
        COLUMNS, initial_indent="    ", subsequent_indent="      "
    )
    meaning, allowed = field.meaning, f"allowed: {field.rule.words}"
    return "\n".join(
        [f"--config.{name}={default}", *map(wrap.fill, (meaning, allowed))]
    )


COMMAND = Command(__doc__.strip(), run, "nothing was written")

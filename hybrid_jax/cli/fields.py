"""List the fields of an experiment, which --config.FIELD=VALUE changes.

  hybrid-jax fields
  hybrid-jax fields augment
  hybrid-jax fields learning_rate
  hybrid-jax fields --config=folder augment

The first lists all fields, the second a group of fields. The third lists the
fields with this text in their names, or else in their meanings (patterns such
as '*_size' work too). Every field is listed with its default, its meaning and
its allowed values. The fourth lists the values of an experiment, and also the
default where it differs.

  --config=FILE[:MODEL]  experiment whose values to list
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import fnmatch
import textwrap
from typing import Any

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.config.field import as_typed
from hybrid_jax.errors import UserError

COLUMNS = 80


def run(call: Call) -> None:
    """Print the fields that a command line asks for.

    Raises:
      UserError: there is no such field, or no such experiment; names similar ones.
    """
    # Imported here, so that help is instant.
    from hybrid_jax.cli.flags import CONFIG, parse
    from hybrid_jax.config.resolve import check_values, default, flatten

    parsed = parse(call.arguments, (CONFIG,), most=1)
    names = matching(*parsed.positional)
    values = flatten(parsed.config or default())
    check_values(values)
    told = [format_field(name, values[name]) for name in names]
    print("\n\n".join(told), flush=True)


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


def format_field(name: str, value: Any) -> str:
    """Return lines with a field's value, meaning and allowed values.

    Args:
      name: of the field.
      value: its value; if this is not the default, a line tells the default.
    """
    from hybrid_jax.config.schema import FIELDS

    field = FIELDS[name]
    lines = [field.meaning, f"allowed: {field.rule.words}"]
    if value != field.default:
        lines.append(f"default: {as_typed(field.default) or 'empty'}")
    wrap = textwrap.TextWrapper(
        COLUMNS, initial_indent="    ", subsequent_indent="      "
    )
    return "\n".join([f"--config.{name}={as_typed(value)}", *map(wrap.fill, lines)])


COMMAND = Command(__doc__.strip(), run, "nothing was written")

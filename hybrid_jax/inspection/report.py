"""Report an inspection: on the screen, as JSON, and as a table of copies."""

import collections
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybrid_jax.csv_text import csv_text
from hybrid_jax.data.lazy_images import LazyImages
from hybrid_jax.data.pixel_format import choose_pixel_format, depth_notes
from hybrid_jax.errors import UserError, escape
from hybrid_jax.inspection import contact_sheet
from hybrid_jax.inspection.checks import NOTICE, SPOILS, Finding, Inspection, Item
from hybrid_jax.inspection.near_duplicates import BY_FEATURES, Copies, Pair
from hybrid_jax.inspection.scan import ScannedImages, count_ignored_files
from hybrid_jax.json_files import read_json, write_whole
from hybrid_jax.paths import expand_user

# Of more than MAX_CLASSES classes, the table has the largest and the smallest.
MAX_CLASSES = 40
AT_EACH_END = 10
MAX_ITEMS = 5  # of a finding on the screen; the others are in report.json
TITLES = {SPOILS: "This would spoil results", NOTICE: "Worth knowing"}

REPORT_FILE, COPIES_FILE = "report.json", "near_copies.csv"
FILES = (REPORT_FILE, COPIES_FILE, *contact_sheet.FILES)  # that are replaced
DIGEST = "near_copies_sha256"  # in the report: the table as it was written
COLUMNS = [
    "likeness",
    "path",
    "split",
    "label",
    "other",
    "other_split",
    "other_label",
    "sure",
    "change",
]


def summarize(inspection: Inspection) -> dict[str, Any]:
    """Return sizes, formats and bytes, by their titles on the screen."""
    images = inspection.images
    infos = images.infos
    sizes = collections.Counter((f.height, f.width) for f in infos)
    formats = collections.Counter(f.format for f in infos)
    kinds = collections.Counter(
        f"{f.bits}-bit " * (f.bits > 8) + ("gray" if f.gray else "color") for f in infos
    )
    others = count_ignored_files(images.found)
    levels = depth_notes([*map(images.name, range(len(images)))], infos)
    return {
        "sizes": _sizes_text(sizes),
        "pixels": _count_text(kinds),
        "formats": _count_text(formats),
        "decoded": _decoded_size(inspection),
        **({"ignored files": _count_text(others)} if others else {}),
        **({"left out": "; ".join(images.notes)} if images.notes else {}),
        **({"levels": "; ".join(levels)} if levels else {}),
    }


def check_replaceable(folder: Path, exclude: str) -> None:
    """Refuse an output folder that holds files of the user's own.

    Args:
      folder: output folder; it need not exist.
      exclude: `config.data.exclude`.

    Raises:
      UserError: no inspection wrote its files, or the table of copies is the list of
        images to leave out, or is not as the last inspection wrote it.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_of_inspection(folder / REPORT_FILE):
        raise UserError(
            f"--output={escape(folder)} holds {', '.join(there)}, and no "
            f"{REPORT_FILE} of an inspection: give another folder"
        )
    table, in_use, reason = folder / COPIES_FILE, expand_user(exclude), ""
    if not table.exists():
        return
    if in_use.exists() and table.samefile(in_use):
        reason = "is the list in config.data.exclude"
    elif _digest(table.read_bytes()) != _digest_when_written(folder / REPORT_FILE):
        reason = "is not as an inspection wrote it"
    if reason:
        raise UserError(
            f"{escape(table)} {reason}, and would be replaced: give another --output, "
            "or move it elsewhere"
        )


def _is_of_inspection(report: Path) -> bool:
    """Return whether a file is the report of an inspection."""
    try:
        return {"summary", "spoiled", "findings"} <= {*read_json(report)}
    except UserError:
        return False


def write(
    folder: Path, inspection: Inspection, summary: dict, findings: list[Finding]
) -> list[str]:
    """Write `report.json` with all findings, and `near_copies.csv` if there are any.

    Wherever this is interrupted, a table that lies there is the one that the report
    knows.

    Returns:
      The names of what was written.
    """
    table = copies_table(inspection.images, inspection.copies)
    (folder / COPIES_FILE).unlink(missing_ok=True)  # of an earlier inspection
    content = _as_json(inspection, summary, findings)
    if table:
        content[DIGEST] = _digest(table)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    # File names need not be UTF-8.
    write_whole(folder / REPORT_FILE, text.encode(errors="backslashreplace"))
    if table:
        write_whole(folder / COPIES_FILE, table)
    return [*[COPIES_FILE] * bool(table), REPORT_FILE]


def _as_json(
    inspection: Inspection, summary: dict, findings: list[Finding]
) -> dict[str, Any]:
    images = inspection.images
    return {
        "name": images.found.title,
        "path": str(images.found.path or ""),
        "classes": [
            {"name": name, **dict(zip(images.splits, map(int, row), strict=True))}
            for name, row in zip(images.classes, images.counts(), strict=True)
        ],
        "summary": summary,
        "spoiled": any(f.check.severity == SPOILS for f in findings),
        "findings": [
            {
                "what": finding.check.name,
                "severity": finding.check.severity,
                "way_out": finding.check.way_out,
                "count": len(finding.items),
                "items": [_item(item, inspection) for item in finding.items],
            }
            for finding in findings
        ],
    }


def show(
    console: Console, inspection: Inspection, summary: dict, findings: list[Finding]
) -> None:
    """Print the tables, and the first items of every finding."""
    console.print(_class_table(inspection))
    infos = Table.grid(padding=(0, 2))
    for name, value in summary.items():
        infos.add_row(Text(name, style="bold"), Text(str(value)))
    console.print(infos)
    for severity, title in TITLES.items():
        matching = [f for f in findings if f.check.severity == severity]
        if matching:
            console.print(Text(f"\n{title}", style="bold"))
        for finding in matching:
            _show_finding(console, finding)


def copies_table(images: ScannedImages, copies: Copies) -> bytes:
    """Return `near_copies.csv`, the most similar pairs first; empty without pairs.

    A pair of two rows that name one file is left out: a list of paths would take both.
    """
    pairs = [(pair, pair.first, pair.second) for pair in copies.between_splits]
    pairs += [(pair, pair.second, pair.first) for pair in copies.within_split]
    pairs = [row for row in pairs if images.place(row[1]) != images.place(row[2])]
    if not pairs:
        return b""
    # Similarities by features have another scale and are less certain: they come last.
    pairs.sort(key=lambda row: (row[0].band == BY_FEATURES, -row[0].similarity))
    # File names need not be UTF-8; their bytes are written unchanged.
    text = csv_text([COLUMNS, *(_row(images, *row) for row in pairs)])
    return text.encode(errors="surrogateescape")


def verdict(findings: list[Finding]) -> str:
    """Return one line: what would spoil a result, and how many of it."""
    spoiling = [f for f in findings if f.check.severity == SPOILS]
    if not spoiling:
        return "nothing was found that would spoil a result"
    counted = ", ".join(f"{f.check.name} ({len(f.items):,})" for f in spoiling)
    return f"this would spoil results: {counted}"


def _digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def _digest_when_written(report: Path) -> str | None:
    """Return the digest in a report; None without a report that has one."""
    try:
        return json.loads(report.read_text(encoding="utf-8"))[DIGEST]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _class_table(inspection: Inspection) -> Table:
    counts, names = inspection.images.counts(), inspection.images.classes
    totals = counts.sum(1)
    table = Table(title=_title(inspection), title_justify="left")
    table.add_column("class")
    splits = inspection.images.splits
    for name in (*splits, "total", "share"):
        table.add_column(name, justify="right")
    table.add_column("", width=20)
    shown: list[int | None] = list(range(len(names)))
    if len(names) > MAX_CLASSES:
        order = np.argsort(-totals, kind="stable").tolist()
        shown = [*order[:AT_EACH_END], None, *order[-AT_EACH_END:]]
    for label in shown:
        if label is None:
            table.add_row(
                f"{len(names) - 2 * AT_EACH_END} between them", *" " * (len(splits) + 2)
            )
            continue
        table.add_row(
            Text(escape(names[label])),
            *(f"{count:,}" for count in (*counts[label], totals[label])),
            f"{100 * totals[label] / max(totals.sum(), 1):.1f} %",
            Bar(max(int(totals.max()), 1), 0, int(totals[label]), width=20),
        )
    table.add_section()
    sums = (*counts.sum(0), totals.sum())
    table.add_row("all", *(f"{count:,}" for count in sums), "", "")
    return table


def _title(inspection: Inspection) -> str:
    images = inspection.images
    return (
        f"{images.found.title}: {len(images):,} images, {len(images.classes)} classes"
    )


def _show_finding(console: Console, finding: Finding) -> None:
    check, items = finding
    mark = {SPOILS: ("✗", "red"), NOTICE: ("!", "yellow")}[check.severity]
    head = Text(f"{mark[0]} {check.name}: {len(items):,}", style=mark[1])
    console.print(head + Text(f" - {check.way_out}", style="default"), soft_wrap=True)
    for item in items[:MAX_ITEMS]:
        console.print(Text(f"    {escape(item.text)}"), soft_wrap=True)
    if len(items) > MAX_ITEMS:
        rest = len(items) - MAX_ITEMS
        console.print(f"    and {rest:,} more, in {REPORT_FILE}", soft_wrap=True)


def _item(item: Item, inspection: Inspection) -> dict[str, Any]:
    if item.pair is None:
        return {"text": item.text}
    images = [inspection.images.name(number) for number in item.pair[:2]]
    return {
        "text": item.text,
        "images": images,
        "likeness": round(item.pair.similarity, 4),
        "sure": item.pair.band,
        "change": item.pair.change,
    }


def _sizes_text(sizes: collections.Counter) -> str:
    if not sizes:
        return "none"
    (most, count), *others = sizes.most_common()
    if not others:
        return f"{most[0]}x{most[1]}, all of them"
    least, greatest = min(sizes, key=math.prod), max(sizes, key=math.prod)
    return (
        f"{len(sizes)}, from {least[0]}x{least[1]} to {greatest[0]}x{greatest[1]}; "
        f"most often {most[0]}x{most[1]} ({count:,})"
    )


def _count_text(counts: collections.Counter) -> str:
    named = [f"{count:,} {name}" for name, count in counts.most_common()]
    return ", ".join(named) or "none"


def _decoded_size(inspection: Inspection) -> str:
    """Return the bytes of all pixels, and whether they stay on the device, in words."""
    # Only here, since it imports jax.
    from hybrid_jax.data.memory_budget import is_resident

    images, config = inspection.images, inspection.config
    title = images.found.title
    try:
        form = choose_pixel_format(
            images.infos, config.image_size, config.fit, config.background, title
        )
    except UserError as error:
        return f"not yet: {error}"
    encoded = LazyImages(images.records, form, images.rows)
    resident = is_resident(config.loader, [encoded])
    _, height, width, channels = encoded.shape
    size = f"{math.prod(encoded.shape) / 1e6:,.1f} MB as {height}x{width}x{channels}"
    where = "which stay on the device" if resident else "streamed to the device"
    return f"{size}, {where} (data.loader={config.loader})"


def _row(images: ScannedImages, pair: Pair, copy: int, other: int) -> tuple:
    return (
        f"{pair.similarity:.4f}",
        _path_cell(images.name(copy)),
        images.split(copy),
        images.class_of(copy),
        _path_cell(images.name(other)),
        images.split(other),
        images.class_of(other),
        pair.band,
        pair.change,
    )


def _path_cell(name: str) -> str:
    """Return a path as a cell that keeps a space at its beginning when it is read."""
    return name if name == name.lstrip() else f"./{name}"

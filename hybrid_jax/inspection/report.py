"""What an inspection found: on the screen, and as JSON."""

import collections
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybrid_jax.data.lazy_images import Encoded, choose_form
from hybrid_jax.errors import UserError
from hybrid_jax.inspection.checks import NOTICE, SPOILS, Finding, Inspection
from hybrid_jax.inspection.scan import ignored

MOST_CLASSES = 40  # in the table; of more, the largest and the smallest are shown
AT_EACH_END = 10
MOST_ITEMS = 5  # of a finding; the others are in report.json
TITLES = {SPOILS: "This would spoil results", NOTICE: "Worth knowing"}


def summarize(inspection: Inspection) -> dict[str, Any]:
    """Sizes, formats and bytes, by what they are called on the screen."""
    images = inspection.images
    facts = images.facts
    sizes = collections.Counter((f.height, f.width) for f in facts)
    formats = collections.Counter(f.format for f in facts)
    kinds = collections.Counter(
        f"{f.bits}-bit " * (f.bits > 8) + ("gray" if f.gray else "color") for f in facts
    )
    others = ignored(images.found)
    return {
        "sizes": _sizes(sizes),
        "pixels": _counted(kinds),
        "formats": _counted(formats),
        "decoded": _decoded(inspection),
        **({"ignored files": _counted(others)} if others else {}),
        **({"left out": "; ".join(images.notes)} if images.notes else {}),
    }


def write_json(
    path: Path, inspection: Inspection, summary: dict, findings: list[Finding]
) -> None:
    """Everything, for a program to read."""
    images = inspection.images
    content = {
        "name": images.found.title,
        "path": str(images.found.place or ""),
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
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # Names of files need not be text.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def show(
    console: Console, inspection: Inspection, summary: dict, findings: list[Finding]
) -> None:
    """The tables, and the first items of every finding."""
    console.print(_class_table(inspection))
    facts = Table.grid(padding=(0, 2))
    for name, value in summary.items():
        facts.add_row(Text(name, style="bold"), Text(str(value)))
    console.print(facts)
    for severity, title in TITLES.items():
        chosen = [f for f in findings if f.check.severity == severity]
        if chosen:
            console.print(Text(f"\n{title}", style="bold"))
        for finding in chosen:
            _show_finding(console, finding)


def verdict(findings: list[Finding]) -> str:
    """One line: what would spoil a result, and how many of it."""
    spoiling = [f for f in findings if f.check.severity == SPOILS]
    if not spoiling:
        return "nothing was found that would spoil a result"
    counted = ", ".join(f"{f.check.name} ({len(f.items):,})" for f in spoiling)
    return f"this would spoil results: {counted}"


def _class_table(inspection: Inspection) -> Table:
    counts, names = inspection.images.counts(), inspection.images.classes
    totals = counts.sum(1)
    table = Table(title=_title(inspection), title_justify="left")
    table.add_column("class")
    splits = inspection.images.splits
    for name in (*splits, "total", "share"):
        table.add_column(name, justify="right")
    table.add_column("", width=20)
    shown = list(range(len(names)))
    if len(names) > MOST_CLASSES:
        order = np.argsort(-totals, kind="stable").tolist()
        shown = [*order[:AT_EACH_END], None, *order[-AT_EACH_END:]]
    for label in shown:
        if label is None:
            table.add_row(
                f"{len(names) - 2 * AT_EACH_END} between them", *" " * (len(splits) + 2)
            )
            continue
        table.add_row(
            Text(names[label]),
            *(f"{count:,}" for count in (*counts[label], totals[label])),
            f"{100 * totals[label] / max(totals.sum(), 1):.1f} %",
            Bar(max(int(totals.max()), 1), 0, int(totals[label]), width=20),
        )
    table.add_section()
    whole = (*counts.sum(0), totals.sum())
    table.add_row("all", *(f"{count:,}" for count in whole), "", "")
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
    for item in items[:MOST_ITEMS]:
        console.print(Text(f"    {item.text}"), soft_wrap=True)
    if len(items) > MOST_ITEMS:
        rest = len(items) - MOST_ITEMS
        console.print(f"    and {rest:,} more, in report.json", soft_wrap=True)


def _item(item, inspection: Inspection) -> dict[str, Any]:
    if item.pair is None:
        return {"text": item.text}
    images = [inspection.images.name(number) for number in item.pair[:2]]
    return {
        "text": item.text,
        "images": images,
        "likeness": round(item.pair.likeness, 4),
        "sure": item.pair.band,
        "change": item.pair.change,
    }


def _sizes(sizes: collections.Counter) -> str:
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


def _counted(counts: collections.Counter) -> str:
    named = [f"{count:,} {name}" for name, count in counts.most_common()]
    return ", ".join(named) or "none"


def _decoded(inspection: Inspection) -> str:
    """Bytes of all pixels, and whether they stay on the device."""
    # Imports jax.
    from hybrid_jax.data.memory_budget import is_resident

    images, options = inspection.images, inspection.options
    title = images.found.title
    try:
        form = choose_form(
            images.facts, options.image_size, options.fit, options.background, title
        )
    except UserError as error:
        return f"not yet: {error}"
    encoded = Encoded(images.records, form, images.rows)
    resident = is_resident(options.loader, [encoded])
    _, height, width, channels = encoded.shape
    size = f"{math.prod(encoded.shape) / 1e6:,.1f} MB as {height}x{width}x{channels}"
    where = "which stay on the device" if resident else "streamed to the device"
    return f"{size}, {where} (data.loader={options.loader})"

"""Text in pictures: in a font that has its letters, and no wider than its place."""

import functools
from collections.abc import Callable

from PIL import ImageFont

# Pillow's own font has no Greek, Cyrillic, Chinese and others; these are looked for
# where the system keeps its fonts.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "segoeui.ttf",
)
NO_CHARACTER = "\uffff"  # drawn as the box that stands for what a font lacks


def letters(text: str, size: int, width: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text for one line, and the font to draw it in.

    Args:
      text: in any script; what no font here has becomes `?`.
      size: of the font, in pixels.
      width: pixels at most; the middle of a longer text is left out.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    fonts = _fonts(size)
    font = min(fonts, key=lambda font: sum(not _has(font, c) for c in {*text}))
    text = "".join(c if _has(font, c) else "?" for c in text)
    return _shortened(text, width, font.getlength), font


def _shortened(text: str, width: int, length: Callable[[str], float]) -> str:
    if length(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        end = kept // 2
        shorter = f"{text[: kept - end]}...{text[len(text) - end :]}"
        if length(shorter) <= width:
            return shorter
    return "..."


@functools.cache
def _fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    fonts = [ImageFont.load_default(size)]
    for name in SYSTEM_FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return fonts


@functools.cache
def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    if character == " ":
        return True
    lacking = font.getmask(NO_CHARACTER)
    mask = font.getmask(character)
    return (mask.size, bytes(mask)) != (lacking.size, bytes(lacking))

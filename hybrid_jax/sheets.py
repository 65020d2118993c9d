"""Draw sheets of images with lines of text in any script; sizes are in pixels."""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Point = tuple[int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
BACKGROUND, TEXT_COLOR, PALE_TEXT_COLOR = (255, 255, 255), (20, 20, 20), (110, 110, 110)
GAP, MARGIN = 4, 16

# Fonts of the system, for scripts that Pillow's font lacks.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "segoeui.ttf",
)
NO_CHARACTER = "\uffff"  # drawn as the box for a missing glyph


def as_picture(image: np.ndarray) -> Image.Image:
    """Return an image uint8 `[h, w, C]`, gray or color, as a Pillow image."""
    return Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)


def paste_image(
    sheet: Image.Image, image: Image.Image, corner: Point, side: int, color: Color
) -> None:
    """Paste an image into a colored square, enlarged by a whole factor or reduced."""
    left, top = corner
    ImageDraw.Draw(sheet).rectangle((left, top, left + side - 1, top + side - 1), color)
    factor = (side - 2 * GAP) / max(image.size)
    if factor >= 1:
        size = [int(factor) * n for n in image.size]
        image = image.resize(size, Image.Resampling.NEAREST)
    else:
        size = [max(1, round(factor * n)) for n in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    x, y = left + (side - image.width) // 2, top + (side - image.height) // 2
    sheet.paste(image, (x, y))


def draw_text(
    sheet: Image.Image,
    text: str,
    at: Point,
    width: int,
    size: int,
    color: Color = TEXT_COLOR,
) -> None:
    """Draw a line of text in any script, whose capitals begin at a point."""
    text, font = fit_text(text, size, width)
    baseline = at[0], at[1] + size
    ImageDraw.Draw(sheet).text(baseline, text, color, font, anchor="ls")


def fit_text(text: str, size: int, width: int) -> tuple[str, Font]:
    """Return a text that fits one line, and the font to draw it in.

    Args:
      text: text in any script; characters that the font lacks become `?`.
      size: font size in pixels.
      width: greatest width in pixels; the middle of a longer text is left out.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    fonts = _fonts(size)
    font = min(fonts, key=lambda font: sum(not _has_glyph(font, c) for c in {*text}))
    text = "".join(c if _has_glyph(font, c) else "?" for c in text)
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
def _fonts(size: int) -> list[Font]:
    fonts: list[Font] = [ImageFont.load_default(size)]
    for name in SYSTEM_FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return fonts


@functools.cache
def _has_glyph(font: Font, character: str) -> bool:
    if character == " ":
        return True
    box = font.getmask(NO_CHARACTER)
    mask = font.getmask(character)
    return (mask.size, bytes(mask)) != (box.size, bytes(box))

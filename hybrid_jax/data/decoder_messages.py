"""Keeps decoders from printing to the terminal what does not concern the user.

Pillow decodes compressed TIFF files with libtiff, which prints to the terminal itself,
about tags that do not matter and about damage that Pillow then raises. Pillow warns of
metadata, of which only rotation marks are read here, of sizes, and of parts of a file
that are no image of it.
"""

import contextlib
import ctypes
import functools
import warnings
from pathlib import Path

import PIL

# How Pillow's warnings begin that say nothing about pixels.
NEEDLESS = (
    "Corrupt EXIF data",
    "Image appears to be a malformed MPO file",
    "Image size .* could be decompression bomb",
    "Invalid APNG, will use default PNG image",
    "Metadata Warning",
    "Palette images with Transparency",
    "Possibly corrupt EXIF data",
    "Tag data larger than file",
    "Truncated File Read",
)


@functools.cache
def hush() -> None:
    """Has Pillow and libtiff print none of this in this process.

    libtiff can be reached in Pillow's wheels; elsewhere it goes on printing.
    """
    for message in NEEDLESS:
        warnings.filterwarnings("ignore", message, module=r"PIL\.")
    packages = Path(PIL.__file__).parents[1]
    places = ("pillow.libs/libtiff*", "PIL/.dylibs/libtiff*")
    for path in (path for place in places for path in packages.glob(place)):
        with contextlib.suppress(OSError, AttributeError):
            _silence_libtiff(ctypes.CDLL(str(path)))


def _silence_libtiff(library: ctypes.CDLL) -> None:
    for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
        set_handler = getattr(library, name)
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)

"""Images of any kind that a run is handed, which it decodes like its own files."""

import dataclasses
import io
import types

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.image_io import FITS
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources import new_images
from hybrid_jax.data.sources.given_images import as_new_images
from hybrid_jax.runs.given_split import given_split
from tests.data.files import digit, encoded

FORMS = [
    PixelFormat((24, 20), 3),
    PixelFormat((24, 20), 1, background="red"),
    *(PixelFormat((40, 40), 3, bits=12, fit=fit, target=(20, 20)) for fit in FITS),
]


def photo(size=(150, 100)):
    """A smooth picture in color."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = [np.sin(x), np.cos(y), np.sin(x + y)]
    return Image.fromarray((np.stack(waves, -1) * 127 + 128).astype(np.uint8))


def on_its_side():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo((60, 40)), "JPEG", exif=exif)


def see_through(mode):
    image = photo().convert("RGBA")
    image.putalpha(digit(3, 100).resize(image.size))
    return encoded(image.convert(mode), "PNG")


DEEP = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)
FILES = {
    "gray": encoded(digit(1), "PNG"),
    "color": encoded(photo((37, 51)), "PNG"),
    "large JPEG": encoded(photo((900, 700)), "JPEG"),
    "on its side": on_its_side(),
    "palette": encoded(photo().quantize(16), "PNG"),
    "GIF": encoded(photo(), "GIF"),
    "CMYK": encoded(photo((60, 40)).convert("CMYK"), "JPEG"),
    "one bit": encoded(digit(4).convert("1"), "PNG"),
    "with alpha": see_through("RGBA"),
    "gray with alpha": see_through("LA"),
    "a transparent color": encoded(digit(5), "PNG", transparency=0),
    "palette with alpha": see_through("P"),
    "16 bits": encoded(Image.fromarray(DEEP), "PNG"),
    "16 bits, TIFF": encoded(Image.fromarray(DEEP), "TIFF"),
    "WebP": encoded(photo(), "WEBP", lossless=True),
}


def opened(name, is_loaded):
    image = Image.open(io.BytesIO(FILES[name]))
    if is_loaded:
        image.load()
    return image


def decoded(given, form):
    """What a network would see of them, to predict."""
    (batch,) = new_images.decode_batches(as_new_images(given, form), form, len(given))
    assert not any(batch.errors), batch.errors
    return batch


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_images_of_pillow_are_decoded_like_their_files(form, is_loaded, tmp_path):
    # The whole of a large JPEG that is loaded is there, and not a reduced one.
    names = [name for name in FILES if not (is_loaded and name == "large JPEG")]
    paths = [tmp_path / str(number) for number in range(len(names))]
    for path, name in zip(paths, names, strict=True):
        path.write_bytes(FILES[name])
    images = [opened(name, is_loaded) for name in names]
    expected, found = decoded(paths, form), decoded(images, form)
    for row, name in enumerate(names):
        np.testing.assert_array_equal(found.images[row], expected.images[row], name)
    np.testing.assert_array_equal(found.extents, expected.extents)
    assert found.differences == expected.differences
    # To evaluate, too.
    config = types.SimpleNamespace(data=DataConfig())
    run = types.SimpleNamespace(form=form, classes=("a", "b"), config=config)
    for given in (paths, images):
        split = given_split(run, given, ["b"] * len(given))
        np.testing.assert_array_equal(split.images[:], expected.images)
        np.testing.assert_array_equal(split.extents, expected.extents)
        assert split.labels.tolist() == [1] * len(given)
    for image, name in zip(images, names, strict=True):  # they can still be used
        np.testing.assert_array_equal(np.asarray(image), np.asarray(opened(name, True)))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_arrays_of_several_sizes_are_decoded_like_files(form, tmp_path):
    images = [digit(1), photo(), photo((30, 31)), digit(2, 9), digit(3)]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    arrays = [np.asarray(image) for image in images]
    arrays[-1] = arrays[-1][..., None]
    expected = decoded(paths, form)
    objects = np.empty(len(arrays), object)
    objects[:] = arrays
    for given in (arrays, objects, [images[0], *arrays[1:]]):
        found = decoded(given, form)
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.extents, expected.extents)
        assert found.differences == expected.differences


def test_an_image_that_was_changed_is_taken_as_it_is():
    form = dataclasses.replace(FORMS[0], size=(24, 24))
    image = Image.open(io.BytesIO(FILES["gray"]))
    image.paste(200, (0, 0, 24, 24))
    assert (decoded([image], form).images == 200).all()
    closed = Image.open(io.BytesIO(FILES["gray"]))
    closed.close()
    (batch,) = new_images.decode_batches(as_new_images([closed], form), form, 1)
    assert batch.errors[0]
    assert as_new_images(as_new_images([image], form), form) is not None


def test_images_of_one_size_stay_an_array():
    images = [np.asarray(digit(row)) for row in range(3)]
    found = as_new_images(images, FORMS[0])
    np.testing.assert_array_equal(found, np.stack(images)[..., None])
    assert as_new_images(found, FORMS[0]) is found

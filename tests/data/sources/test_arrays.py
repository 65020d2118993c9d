"""Data sets that are handed over as arrays."""

import datetime
import enum
import io
import json
import unicodedata
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources.arrays import to_pixel_format
from hybrid_jax.data.sources.estimator_inputs import as_column, as_images, find_classes
from hybrid_jax.data.sources.image_checks import check_images
from hybrid_jax.data.sources.label_checks import check_labels, encode_labels
from hybrid_jax.errors import UserError
from tests.data.files import digit

IMAGES = np.stack([np.asarray(digit(row, 8)) for row in range(40)])
LABELS = np.arange(40) % 4


class Table:
    """A table of several columns, as pandas and polars have them."""

    columns = ("b", "c")

    def __iter__(self):
        return iter(self.columns)


def made(images=IMAGES, labels=LABELS, *groups, others=(), **options):
    splits = {"train": (images, labels, *groups), **dict(others)}
    return data.from_arrays(splits, DataConfig("made", **options))


def refusal(*args, **options):
    with pytest.raises(UserError) as error:
        made(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "fields",
    [{}, {"validation": "2/5", "split_seed": 3}, {"fraction": 0.3}, {"per_class": 7}],
    ids=str,
)
def test_arrays_are_parted_as_the_data_set_that_they_are_of(fields, digits):
    expected = data.load(DataConfig("digits", **fields))
    whole = {name: (split.images, split.labels) for name, split in digits.items()}
    found = data.from_arrays(whole, DataConfig("digits", **fields))
    assert [*found] == [*expected]
    for name, split in found.items():
        np.testing.assert_array_equal(split.images, expected[name].images)
        np.testing.assert_array_equal(split.labels, expected[name].labels)
    assert found.classes == expected.classes
    assert found.form == expected.form
    assert found.notes == expected.notes
    assert data.from_arrays(found, DataConfig("digits")) is found


@pytest.mark.parametrize("size", [(16, 16), (16, 18), (20, 16), (4, 6)], ids=str)
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_arrays_come_to_a_size_as_files_do(size, fit, tmp_path):
    for row, label in enumerate(LABELS):
        path = tmp_path / "images" / str(label) / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        digit(row, 8).save(path)
    fields = {"image_size": size, "fit": fit, "validation": 0}
    files = data.load(
        DataConfig(
            "folder", str(tmp_path / "kept"), path=str(tmp_path / "images"), **fields
        )
    )
    arrays = made(**fields)
    assert arrays.form == files.form
    ours = {image.tobytes() for image in arrays.train.images}
    assert {image.tobytes() for image in files.train.images} <= ours
    if files.train.extents is not None:
        np.testing.assert_array_equal(arrays.train.extents[0], files.train.extents[0])
    again, _ = to_pixel_format(IMAGES[..., None], arrays.form)
    np.testing.assert_array_equal(again, arrays.train.images)
    color, _ = to_pixel_format(np.stack([IMAGES] * 3, -1), arrays.form)
    assert color.shape == again.shape


def test_pixels_are_not_copied_where_all_are_used():
    assert np.shares_memory(made(validation=0).train.images, IMAGES)


def test_a_form_is_kept_in_json():
    for form in (
        PixelFormat((8, 9), 1),
        PixelFormat((8, 9), 3, 12, "pad", "black", (4, 5)),
    ):
        assert PixelFormat.from_json(json.loads(json.dumps(form.to_json()))) == form


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS.tolist(), ("0", "1", "2", "3")),
        (LABELS * 7 - 7, ("-7", "0", "7", "14")),
        (LABELS.astype(np.float32), ("0", "1", "2", "3")),
        ([("dog", "ant")[n % 2] for n in LABELS], ("ant", "dog")),
        (np.array(["10", "9", "x"])[LABELS % 2], ("9", "10")),
        (np.array(["b", "a"], object)[LABELS % 2], ("a", "b")),
        (LABELS > 1, ("False", "True")),
        (LABELS / 2, ("0.0", "0.5", "1.0", "1.5")),
    ],
    ids=["list", "negative", "whole", "names", "digits", "object", "bool", "floats"],
)
def test_labels_of_any_values_are_classes(labels, classes):
    splits = made(labels=labels, validation=0)
    assert splits.classes == classes
    assert splits.train.labels.dtype == np.int32
    names = np.array(classes)[splits.train.labels]
    assert len({*zip(names, [str(label) for label in labels], strict=True)}) == len(
        classes
    )
    back = encode_labels(labels, classes, "test")
    np.testing.assert_array_equal(back, splits.train.labels)


@pytest.mark.parametrize(
    "kind", ["S", "T", object], ids=["bytes", "StringDType", "object"]
)
def test_text_of_each_type_is_text(kind):
    dtype = np.dtypes.StringDType() if kind == "T" else kind
    labels = np.array(["b", "a"]).astype(dtype)[LABELS % 2]
    assert made(labels=labels, validation=0).classes == ("a", "b")
    assert check_labels(labels, "mine").dtype.kind == "U"
    assert find_classes(labels).tolist() == ["a", "b"]


def test_names_in_two_unicode_forms_are_one_class_and_one_group():
    """As those of folders and tables are."""
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    labels = np.array([composed, apart, "a", "a"])[LABELS]
    splits = made(IMAGES, labels, np.where(LABELS % 2, apart, composed), validation=0)
    assert splits.classes == ("a", composed)
    assert {*splits.train.groups} == {composed}
    assert len(find_classes(labels)) == 2
    # Names as they were given, here and by a run of an earlier version.
    assert find_classes(np.array(["a", apart])).tolist() == ["a", apart]
    assert encode_labels([composed], ("a", apart), "mine").tolist() == [1]


def test_floats_are_whole_numbers_as_far_as_they_are_exact():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float16, np.float32, np.float64):
            assert check_labels(LABELS.astype(dtype), "mine").dtype == np.int64
        assert "2**53 and more are not exact" in refusal(labels=LABELS * 1e19)


@pytest.mark.parametrize("labels", [[10**30, 1] * 20, LABELS + 0j], ids=["big", "1j"])
def test_labels_that_could_not_be_scored_are_refused(labels):
    with pytest.raises(UserError, match="give labels as numbers or as text"):
        find_classes(labels)


SPOILED = IMAGES / 255
SPOILED[3, 1] = np.nan
COLOR = np.stack([IMAGES] * 3, -1)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES[:0], "train: there is no image in it"),
        (IMAGES / 255, "np.round(images * 255).astype(np.uint8)"),
        (IMAGES / 255 * 2 - 1, "np.round((images + 1) * 127.5).astype(np.uint8)"),
        (IMAGES.astype(int), "from 0 to 240, and bytes from 0 to 255 (uint8) are"),
        (
            IMAGES * 1.1,
            "from 0 to 264, and bytes from 0 to 255 (uint8) are needed: np.c",
        ),
        (IMAGES * 1.01, "np.clip(np.round(images), 0, 255).astype(np.uint8)"),
        ((IMAGES - 33.0) / 78, "undo what scaled them"),
        (IMAGES * np.uint16(200), "(images >> 8).astype(np.uint8)"),
        (SPOILED, "8 values of 1 image are NaN or infinite"),
        (IMAGES > 9, "type bool, and uint8 is needed"),
        (IMAGES.astype(object), "type object"),
        (np.array([], str), "type <U1, and uint8 is needed"),
        (["a.png"] * 40, "images are text, such as 'a.png': give their pixels"),
        ([IMAGES[0], IMAGES[1][1:]] * 20, "images have several sizes"),
        (
            COLOR.transpose(0, 3, 1, 2),
            "channels come last, images.transpose(0, 2, 3, 1)",
        ),
        (COLOR[0], "for one image, images[None]"),
        (IMAGES.reshape(40, -1), "images are [40, 64]"),
        (COLOR[..., [0, 0, 1, 2]], "1 or 3 channels are needed: images[..., :3]"),
        (COLOR[..., :2], "1 or 3 channels are needed: images[..., :1]"),
        (COLOR[None], "[N, h, w] or [N, h, w, C] is needed"),
        (IMAGES[:39], "train: 39 images and 40 labels"),
    ],
    ids=str,
)
def test_images_that_are_none_are_refused_with_the_call_that_mends_them(images, said):
    message = refusal(images)
    assert said in message
    assert message.startswith("train: ")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (dict.fromkeys(range(40), "a"), "labels are a dict, .* give a list$"),
        ({*range(40)}, "labels are a set, .* give a list$"),
        (Table(), "labels are a Table, .* one column; .* labels.to_numpy"),
        (["a\0", "a"] * 20, "a label holds the character NUL, which NumPy drops"),
        ([b"a\0", b"a"] * 20, "a label holds the character NUL, which NumPy drops"),
        (np.array(["a\0", "a"], np.dtypes.StringDType()), "a label holds the .* NUL"),
        (np.array(["a\0b", "a"]), "a label holds the character NUL"),
    ],
    ids=["mapping", "set", "table", "NUL", "bytes", "text of any length", "array"],
)
def test_labels_that_would_be_misread_are_refused(labels, said):
    with pytest.raises(UserError, match=f"^mine: {said}"):
        check_labels(labels, "mine")


TEXT = np.dtypes.StringDType


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "b", None], "None"),
        (["a", "b", float("nan")], "nan"),
        (np.array(["2020", "2021", "NaT"], "M8[D]"), "NaT"),
        (np.array(["a", "b", None], TEXT(na_object=None)), "None"),
        (np.array(["a", "b", np.nan], TEXT(na_object=np.nan)), "nan"),
        ([1, 0, np.ma.masked], "--"),
    ],
    ids=str,
)
def test_labels_that_are_missing_are_refused_by_number(labels, said):
    with pytest.raises(UserError) as error:
        check_labels(labels, "mine")
    assert str(error.value) == (
        f"mine: 1 label of 3 is missing ({said}): leave those images out"
    )


def test_labels_that_pandas_misses_are_refused():
    pandas = pytest.importorskip("pandas")
    columns = [
        pandas.Series(["a", "b", None], dtype=dtype)
        for dtype in ("object", "string", "category")
    ]
    columns += [
        pandas.Series([True, False, None], dtype="boolean"),
        pandas.Series(pandas.to_datetime(["2020-01-01", "2021-01-01", None])),
        [pandas.Timestamp("2020"), pandas.Timestamp("2021"), pandas.NaT],
    ]
    for labels in columns:
        with pytest.raises(UserError, match=r"^mine: 1 label of 3 is missing"):
            check_labels(labels, "mine")


def test_values_that_are_masked_are_refused():
    masked = np.ma.masked_array(IMAGES, np.zeros(IMAGES.shape, bool))
    np.testing.assert_array_equal(as_images(masked)[..., 0], IMAGES)
    masked[3:5, 0] = np.ma.masked
    for call in (
        lambda: refusal(masked),
        lambda: refusal([*masked]),
        lambda: _said(lambda: as_images(masked, "train")),
    ):
        assert call() == (
            "train: 16 values of 2 images are masked: leave those images out, or fill "
            "them: images.filled(0)"
        )
    check_images(masked.filled(0), "train")
    labels = np.ma.masked_array(LABELS, LABELS > 2)
    for call in (
        lambda: refusal(labels=labels),
        lambda: _said(lambda: as_column(labels[:, None])),
        lambda: _said(lambda: encode_labels(labels, "0123", "mine")),
    ):
        assert "10 labels of 40 are masked: leave those images out" in call()
    assert len(check_labels(labels[LABELS < 3], "mine")) == 30


def _said(call):
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("mode", ["P", "HSV", "YCbCr", "1"])
def test_numbers_that_are_no_levels_are_refused(mode):
    said = refusal([Image.fromarray(COLOR[0]).convert(mode)] * 40)
    assert f"Pillow's mode {mode}, and L or RGB is needed" in said
    assert "image.convert('RGB')" in said


@pytest.mark.parametrize(
    "images",
    [
        IMAGES / 255,
        IMAGES / 255 * 2 - 1,
        IMAGES.astype(int),
        COLOR.transpose(0, 3, 1, 2),
    ],
)
def test_the_call_that_is_told_does_mend_them(images):
    with pytest.raises(UserError) as error:
        check_images(images, "mine")
    call = str(error.value).rpartition(": ")[2].rpartition("last, ")[2]
    mended = eval(call)  # noqa: S307
    np.testing.assert_array_equal(
        check_images(mended, "mine"), COLOR if images.ndim == 4 else IMAGES[..., None]
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.eye(4)[LABELS], "for one-hot labels, labels.argmax(1)"),
        (np.array(LABELS)[:, None], "for a column, labels.ravel()"),
        (np.where(LABELS > 2, np.nan, LABELS), "10 labels of 40 are NaN"),
        (["a", 1] * 20, "several types (numbers, text)"),
        ([None] * 40, "40 labels of 40 are missing (None)"),
        ([True, 1] * 20, "several types (bool, numbers)"),
        (["a"] * 40, "all labels are 'a': two classes"),
        (7, "labels are int, and a list or an array is needed"),
        ([*LABELS[:39], 9], "class '9' has 1 training image"),
    ],
    ids=["one-hot", "column", "nan", "mixed", "none", "bools", "one", "scalar", "lone"],
)
def test_labels_that_are_none_are_refused(labels, said):
    assert said in refusal(labels=labels)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            {"val": (IMAGES, LABELS)},
            "'val', which is none of train, validation, test, d",
        ),
        ({"test": (COLOR, LABELS)}, "test: images are [8, 8, 3], and those of train"),
        ({"test": (IMAGES[:, 1:], LABELS)}, "test: images are [7, 8, 1]"),
        (
            {"test": (IMAGES, LABELS + 2)},
            "test: train lacks 2 of its classes: '4', '5'",
        ),
        ({"test": (IMAGES, ["a"] * 40)}, "numbers in train, text in test"),
        ({"test": IMAGES}, "test: it is ndarray, and (images, labels)"),
        ({"test": (IMAGES,) * 4}, "test: it is tuple of 4"),
        ({"test": (IMAGES, LABELS, [1] * 39)}, "test: 40 images and 39 groups"),
        (
            {"test": (IMAGES, LABELS, [1, np.nan] * 20)},
            "test: 20 groups of 40 are missing (nan)",
        ),
        ({"test": (IMAGES, LABELS, [None] * 40)}, "test: 40 groups of 40 are missing"),
    ],
    ids=str,
)
def test_splits_that_do_not_fit_together_are_refused(others, said):
    assert said in refusal(others=others)


def test_splits_without_one_to_train_on_are_refused():
    for splits, said in (({"test": (IMAGES, LABELS)}, "no 'train'"), ([], "are list")):
        with pytest.raises(UserError, match=said):
            data.from_arrays(splits, DataConfig("made"))


def test_splits_that_are_given_are_used(tmp_path):
    others = {name: (IMAGES[:9], LABELS[:9]) for name in ("validation", "test")}
    assert [*map(len, made(others=others).values())] == [40, 9, 9]
    alone = made(others=others, validation=0)
    assert [*alone] == ["train", "test"]
    assert "9 images of the validation split left out" in alone.notes[0]
    listing = tmp_path / "listing.txt"
    listing.write_text("validation/3\ntrain/5\n")
    shorter = made(others=others, validation=0, exclude=str(listing))
    assert [*map(len, shorter.values())] == [39, 9]
    assert "the data set has a validation split" in refusal(
        others=others, validation=0.2
    )
    others = {"test": (IMAGES[::4], LABELS[::4])}
    assert "lacks 3 of 4 classes: '1', '2', '3'" in made(others=others).notes[-1]


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_splits_of_a_data_set_may_be_put_together_anew(loader):
    splits = data.load(DataConfig("digits", loader=loader))
    swapped = {"train": splits.test, "test": splits.validation}
    again = data.from_arrays(swapped, DataConfig("made", validation=0))
    assert [*map(len, again.values())] == [360, 144]
    assert again.form == splits.form
    rows = np.arange(9)
    for new, old in (("train", "test"), ("test", "validation")):
        assert again[new].resident == (loader == "resident")
        np.testing.assert_array_equal(again[new].labels, splits[old].labels)
        np.testing.assert_array_equal(again[new].images[rows], splits[old].images[rows])


def test_groups_stay_together_and_may_not_leak():
    groups = np.arange(40) // 8 * 4 + LABELS  # two images of one class each
    splits = made(IMAGES, LABELS, groups, validation=0.2)
    rows = {image.tobytes(): row for row, image in enumerate(IMAGES)}
    people = [
        {groups[rows[image.tobytes()]] for image in split.images}
        for split in splits.values()
    ]
    assert not people[0] & people[1]
    test = (IMAGES[:8], LABELS[:8], groups[:8])
    assert "4 groups lie in two splits" in refusal(
        IMAGES, LABELS, groups, others={"test": test}
    )
    assert "lies in 1 group" in refusal(IMAGES, LABELS, LABELS)
    again = data.from_arrays({"train": splits.train}, DataConfig("made", validation=0))
    np.testing.assert_array_equal(again.train.groups, splits.train.groups)
    named = (IMAGES[:8], LABELS[:8], [str(group) for group in groups[:8]])
    assert "4 groups lie in two" in refusal(
        IMAGES, LABELS, groups, others={"test": named}
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat", "dgo"], "'dgo'; its classes are 'cat', 'dog', did you mean 'dog'?"),
        (
            [0, 1],
            "'0', '1'; its classes are 'cat', 'dog'; give names: np.array(classes)",
        ),
        ([[0, 1]], "one per image is needed"),
    ],
)
def test_labels_of_other_images_are_names_of_classes(labels, said):
    with pytest.raises(UserError) as error:
        encode_labels(labels, ("cat", "dog"), "mine")
    assert said in str(error.value)
    found = encode_labels(np.array(["dog", "cat", "dog"]), ("cat", "dog"), "mine")
    assert found.tolist() == [1, 0, 1]


def test_one_image_is_told_from_rows_of_pixels_by_its_size():
    one, rows = "for one image, images[None]", "for rows of pixels, images.reshape"
    for image in (IMAGES[0], IMAGES[0][..., None], COLOR[0]):
        said = _said(lambda image=image: check_images(image, "", (8, 8)))
        assert said.startswith(f"images are {[*image.shape]}, and")
        assert one in said and rows not in said
    said = _said(lambda: check_images(IMAGES.reshape(40, -1), "mine", (8, 8)))
    assert said.index(rows) < said.index(one)
    assert said.startswith("mine: images are [40, 64]")
    assert one not in _said(lambda: check_images(IMAGES[0], "mine"))  # to train on


def test_labels_in_bytes_of_another_encoding_stay_apart():
    labels = np.array([b"\xe9", b"\xe8"] * 20)
    assert len(made(labels=labels).classes) == 2
    assert len(find_classes(labels)) == 2
    groups = np.array([b"%c" % (0xE0 + row // 4) for row in range(40)])
    found = made(IMAGES, LABELS, groups, validation=0.25)
    assert len(np.unique(found.train.groups)) + len(
        np.unique(found.validation.groups)
    ) == len(np.unique(groups))


def test_numbers_with_and_without_a_sign_name_the_same_classes():
    others = {"test": (IMAGES[:4], LABELS[:4].astype(np.uint64))}
    assert made(others=others).classes == ("0", "1", "2", "3")
    large = np.where(LABELS < 2, LABELS.astype(np.uint64), np.uint64(2**63) + 1)
    test = (IMAGES[:2], np.array([1, 0]))
    assert made(labels=large, others={"test": test}).classes == (
        "0",
        "1",
        f"{2**63 + 1}",
    )
    made(IMAGES, LABELS, np.uint64(2**63) + np.arange(40, dtype=np.uint64))


def test_labels_that_have_no_order_are_refused():
    kind = enum.Enum("kind", "a b")
    said = refusal(labels=[*kind] * 20)
    assert said == "labels of the type kind have no order: give numbers or text"
    days = [datetime.date(2026, 11, 1 + row % 4) for row in range(40)]
    assert made(labels=days).classes == tuple(f"2026-11-0{n}" for n in range(1, 5))


@pytest.mark.parametrize("kind", [set, dict.fromkeys])
def test_images_without_an_order_are_refused(kind):
    with pytest.raises(UserError, match="which has no fixed order: give a list"):
        as_images(kind(["0.png", "1.png"]))


def test_views_of_dictionaries_are_ordered():
    labels = {f"{n}.png": n for n in range(40)}
    assert [path.name for path in as_images(labels.keys())] == [*labels]
    assert check_labels(labels.values(), "y").tolist() == [*labels.values()]


def opened(format, **options):
    """An image of Pillow as it is opened from a file."""
    content = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(content, format, **options)
    return Image.open(content)


def test_images_of_pillow_keep_all_that_their_files_say(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 3
    pages = [Image.fromarray(IMAGES[1])]
    tiff = opened("TIFF", save_all=True, append_images=pages)
    for image, why in (
        (opened("PNG", exif=exif), r"which an EXIF tag turns: turn it: ImageOps\.exif"),
        (opened("PNG", transparency=0), "which has a transparent level: convert it"),
        (tiff, "which has 2 pages: convert one"),
    ):
        with pytest.raises(UserError, match=f"such as image 1, .*{why}.* the paths"):
            as_images([Image.fromarray(IMAGES[0]), image])
    np.testing.assert_array_equal(as_images([opened("PNG")])[..., 0], IMAGES[:1])
    turned = ImageOps.exif_transpose(opened("PNG", exif=exif))
    plain = [opened("PNG", transparency=0).convert("RGB"), tiff.convert("RGB"), turned]
    assert all(len(as_images([image])) == 1 for image in plain)
    Image.fromarray(IMAGES[0]).save(
        tmp_path / "1.tif", save_all=True, append_images=pages
    )
    with Image.open(tmp_path / "1.tif") as closed:
        closed.load()
    assert len(as_images([closed])) == 1


class Tensor:
    """A tensor of PyTorch with gradients, as far as NumPy sees it."""

    dtype, shape, ndim = "float32", (40, 8, 8), 3

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def test_tensors_that_cannot_be_read_say_why():
    for said in (refusal(Tensor()), refusal(labels=Tensor())):
        assert "are no array: Can't call numpy() on Tensor that requires grad." in said
    with pytest.raises(UserError, match="X is no array: Can't call"):
        as_images(Tensor())

import pytest

from hybrid_jax.models.strides import (
    as_size,
    check_strides,
    choose_patch,
    choose_strides,
    map_sizes,
)


@pytest.mark.parametrize(
    ("size", "strides"),
    [
        ((16, 16), (1, 1, 1, 2, 2)),
        ((28, 28), (1, 1, 2, 2, 2)),
        ((32, 32), (1, 1, 2, 2, 2)),
        ((64, 64), (1, 2, 2, 2, 2)),
        ((128, 128), (2, 2, 2, 2, 2)),
        ((224, 224), (2, 2, 2, 2, 2)),
        ((224, 64), (1, 2, 2, 2, 2)),
    ],
)
def test_strides_leave_a_map_to_attend_to(size, strides):
    assert choose_strides(size) == strides
    assert min(map_sizes(size, strides)[-1]) >= 4


@pytest.mark.parametrize("side", range(16, 300))
def test_no_size_is_shrunk_below_four_pixels_nor_left_larger_than_needed(side):
    strides = choose_strides((side, side))
    last = map_sizes((side, side), strides)[-1][0]
    assert last >= 4
    assert strides == (2,) * 5 or last <= 8


def test_odd_sizes_round_up():
    assert map_sizes((7, 9), (2, 2)) == [(4, 5), (2, 3)]


def test_sizes_that_cannot_be_served():
    with pytest.raises(ValueError, match="16x16 px and up"):
        check_strides((15, 32), (1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"divide by 32.*\(1, 1, 1, 2, 2\) would do"):
        check_strides((16, 16), (2, 2, 2, 2, 2))
    check_strides((32, 32), (2, 2, 2, 2, 2))  # a last map of one pixel, if asked for


def test_one_number_is_a_square():
    assert as_size(32) == as_size((32, 32)) == (32, 32)


@pytest.mark.parametrize(
    ("side", "patch"), [(16, 2), (28, 4), (32, 4), (64, 8), (96, 8), (224, 16)]
)
def test_patches_shrink_with_the_image(side, patch):
    assert choose_patch((side, side)) == patch
    assert choose_patch((500, side)) == patch

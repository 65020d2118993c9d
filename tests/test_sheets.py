"""Lines of text in sheets of images."""

from hybrid_jax.sheets import fit_text


def test_letters_that_no_font_has_are_marked_and_long_names_fit():
    assert fit_text("Größe 1", 14, 200)[0] == "Größe 1"
    assert fit_text("\U0001f9a0x", 14, 200)[0] == "?x"
    name, font = fit_text("a very long name of a class of cells.png", 14, 120)
    assert font.getlength(name) <= 120
    assert name.startswith("a very")
    assert name.endswith(".png")

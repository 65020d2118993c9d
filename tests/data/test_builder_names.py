"""How a builder is found by name."""

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import builders


def test_a_new_file_is_a_new_data_set(tmp_path, monkeypatch):
    (tmp_path / "my_digits.py").write_text(
        "from hybrid_jax.data.builders.digits import Digits\n"
        "import tensorflow_datasets as tfds\n\n"
        "with tfds.core.registered.skip_registration():\n\n"
        "    class MyDigits(Digits):\n"
        "        pass\n"
    )
    monkeypatch.setattr(builders, "__path__", [*builders.__path__, str(tmp_path)])
    assert {"cifar100", "digits", "my_digits"} < {*builders.builder_names()}
    assert "archives" not in builders.builder_names()
    config = DataConfig("my_digits", str(tmp_path / "data"))
    assert data.load(config).test.shape == (360, 8, 8, 1)
    assert (tmp_path / "data" / "my_digits").is_dir()

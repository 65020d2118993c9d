"""What is loaded, as one value."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """What is loaded: the fields of `config.data`, which say what they mean."""

    name: str
    dir: str = ""
    manual_dir: str = ""
    path: str = ""
    label: str = "label"
    group: str = ""
    image_size: tuple[int, ...] = ()
    fit: str = "crop"
    background: str = "white"
    on_error: str = "stop"
    exclude: str = ""
    test_fraction: float = 0.2
    validation: float | str = 0.1
    split_seed: int = 0
    fraction: float = 1.0
    per_class: int = 0
    loader: str = "auto"
    workers: int = 0

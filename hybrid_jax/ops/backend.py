"""The target of a trace: the devices of this machine, other chips, or no platform.

Most operations here have an optimized implementation, which is faster on CPUs, and a
reference, which accelerators use.
"""

import contextlib
import contextvars
from collections.abc import Hashable, Iterator, Sequence

import jax

REFERENCE = "reference"

_reference = contextvars.ContextVar("reference_implementations", default=False)
_devices: contextvars.ContextVar[tuple[jax.Device, ...]] = contextvars.ContextVar(
    "target_devices", default=()
)


def target_devices() -> tuple[jax.Device, ...]:
    """Return the devices of all hosts that programs are compiled for."""
    return _devices.get() or tuple(jax.devices())


def is_compiling_for_chips() -> bool:
    """Return whether programs are compiled for chips that this machine lacks."""
    return bool(_devices.get())


def target_backend() -> str:
    """Return the platform whose implementations are traced, or `reference`."""
    if _reference.get():
        return REFERENCE
    chips = _devices.get()
    return chips[0].platform if chips else jax.default_backend()


def target_key() -> Hashable:
    """Return what a trace depends on: the platform, and the kind of its devices."""
    return target_backend(), target_devices()[0].device_kind


def use_cpu_implementations() -> bool:
    """Return whether implementations that are optimized for CPUs are traced."""
    return target_backend() == "cpu"


@contextlib.contextmanager
def compiling_for(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Trace the enclosed code for devices that this machine need not have."""
    token = _devices.set(tuple(devices))
    try:
        yield
    finally:
        _devices.reset(token)


@contextlib.contextmanager
def reference_implementations() -> Iterator[None]:
    """Trace references in the enclosed code, to analyze a program without running it.

    A depthwise convolution then appears as a convolution, so its products can be
    counted.
    """
    token = _reference.set(True)
    try:
        yield
    finally:
        _reference.reset(token)

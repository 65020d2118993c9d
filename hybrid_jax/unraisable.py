"""Layers on `sys.unraisablehook`, which Python calls for exceptions that it drops."""

import sys
from collections.abc import Callable, Iterator


class Layer:
    """A hook that handles some exceptions, and passes the others to the hook before it.

    Attributes:
      handles: handles an exception, and returns whether it did; None once the layer was
        removed.
    """

    def __init__(self, handles: Callable[["sys.UnraisableHookArgs"], bool]) -> None:
        """Lay it on top of the hooks that are there."""
        self.handles: Callable[[sys.UnraisableHookArgs], bool] | None = handles
        self._before = sys.unraisablehook
        sys.unraisablehook = self

    def __call__(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Handle an exception, or pass it on."""
        handles = self.handles
        if handles is None or not handles(unraisable):
            self._before(unraisable)

    def remove(self) -> None:
        """Handle no more, and take all removed layers off the top.

        Under another hook, a removed layer stays until that one is taken off.
        """
        self.handles = None
        while isinstance(top := sys.unraisablehook, Layer) and top.handles is None:
            sys.unraisablehook = top._before


def layers() -> Iterator[Layer]:
    """Yield the layers from the top down to the first hook of others."""
    hook = sys.unraisablehook
    while isinstance(hook, Layer):
        yield hook
        hook = hook._before

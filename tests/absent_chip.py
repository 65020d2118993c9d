"""A chip that is not here, for what is only traced for it."""


class Device:
    """What the choice of an operation's form asks of a device."""

    device_kind = "a chip"

    def __init__(self, platform, compute_capability=None):
        self.platform, self.compute_capability = platform, compute_capability

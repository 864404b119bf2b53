"""Parts that share a device too small for all of them: one at a time is on it, the others wait on the host."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch


class Movable(Protocol):
    """What goes to a device as modules do."""

    def to(self, device: torch.device, /) -> Any:
        """Go there."""
        ...


class Turns:
    """Which part is on the device.

    Args:
        device: where they compute.
        parts: name -> what belongs to it; all of it is on the host.
    """

    def __init__(self, device: torch.device, parts: Mapping[str, Sequence[Movable]]) -> None:
        self.device, self.parts = device, parts
        self.there: str | None = None

    def bring(self, name: str) -> None:
        """Put a part onto the device, after the one that is there has left it."""
        if name == self.there:
            return
        for part in self.parts[self.there] if self.there is not None else ():
            part.to(torch.device("cpu"))
        for part in self.parts[name]:
            part.to(self.device)
        self.there = name

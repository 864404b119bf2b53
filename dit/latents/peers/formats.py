"""The formats of others, recognised by what a folder or a file holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dit.latents.peers.edm import is_edm, open_edm
from dit.latents.peers.fast_dit import is_fast_dit, open_fast_dit
from dit.latents.peers.lightningdit import is_lightningdit, open_lightningdit
from dit.latents.peers.peer import Peer


@dataclass(frozen=True)
class Format:
    """A way to store latents."""

    recognises: Callable[[Path], bool]
    """Tells whether a path is of this format."""
    open: Callable[[Path], Peer]
    """Opens it."""


FORMATS = (
    Format(is_fast_dit, open_fast_dit),
    Format(is_lightningdit, open_lightningdit),
    Format(is_edm, open_edm),
)


def open_peer(path: Path) -> Peer | None:
    """Open latents of another format; None where a path is of none.

    Raises:
        DitError: they are damaged or hostile; the file is named.
    """
    found = next((form for form in FORMATS if form.recognises(path)), None)
    return found and found.open(path)

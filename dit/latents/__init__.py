"""Images as latents of an autoencoder: the codec, the cache of moments on the disk, and the data set read from it."""

from typing import TYPE_CHECKING

from dit.lazy import lazy

if TYPE_CHECKING:
    from dit.latents.codec import Codec, load_codec

__all__ = ["Codec", "load_codec"]
_HOMES = {
    "Codec": "dit.latents.codec",
    "load_codec": "dit.latents.codec",
}
__getattr__, __dir__ = lazy(__name__, _HOMES)

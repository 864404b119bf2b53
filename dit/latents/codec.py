"""Images to latents and back, through any autoencoder as diffusers saves it, or as pixels.

An encoder gives *moments*: the mean and the log-variance of a Gaussian over z, or z itself where it is deterministic.
A draw is z = mean + exp(log_var / 2) noise, and what a diffusion model sees is normalised per channel, or per channel
and position where the autoencoder's file holds such statistics:

    latents = (z - shift) * scale        image = decoder(latents / scale + shift)

Randomness is always passed in, so that a draw depends on nothing but its noise.

B images, 1 or 3 channels, H x W pixels; C latent channels, h x w positions; M moments, 2C (Gaussian) or C.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from dit.device import Pending
from dit.errors import ConfigError, DitError
from dit.latents.autoencoder import CONFIG_NAME, AutoencoderFolder, find_autoencoder, load_autoencoder
from dit.latents.config import COPY_NAME, LatentsConfig, LatentsDescription
from dit.latents.decoder import speed_up_decoder
from dit.latents.kind import Autoencoder
from dit.latents.tiles import decode_in_tiles
from dit.layers.precision import tf32_products

DECODED_PIXELS = 2**14  # decoded at a time on a CPU: 16 images of 32 x 32, one of 128 x 128 or more
DECODED_IMAGES = 16  # decoded at a time on a GPU, which one alone does not fill
MIN_TILE = 8  # a smaller one is little more than its edges
LOG_VAR_RANGE = (-30.0, 20.0)  # diffusers' clamp


def load_codec(
    config: LatentsConfig | str, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> "Codec":
    """Load an autoencoder with its normalisation.

    Args:
        config: recipe section `latents`, or just the autoencoder: an embedded name, a folder, or a Hub id.
        device: where to compute; the CPU by default.
        dtype: of the autoencoder's weights and arithmetic; float32 by default. Moments and latents are float32 anyway.

    Raises:
        ConfigError: there is no such autoencoder, or its normalisation does not fit it.
        DitError: it can't be downloaded or is damaged.
    """
    if isinstance(config, str):
        config = LatentsConfig(vae=config)
    folder = find_autoencoder(config.vae)
    codec = Codec(load_autoencoder(folder, dtype or torch.float32), folder)
    return codec.with_normalisation(*_normalisation(folder.config(), config, codec)).to(device or "cpu")


class Codec:
    """An autoencoder, its facts and its normalisation."""

    def __init__(self, autoencoder: Autoencoder, folder: AutoencoderFolder) -> None:
        """Take an autoencoder and the folder it came from."""
        self.autoencoder = autoencoder
        self.folder, self.class_name = folder, folder.class_name
        self.decoder_dtype: torch.dtype | None = None  # decided when something is decoded
        self.slice_size: int | None = None  # images decoded at a time; None: as many as suit the device
        self.tile: int | None = None  # side, in positions, of the tiles that are decoded; None: in one piece
        self.rounding: Literal["nearest", "down"] = "nearest"  # how pixels in [0, 255] become bytes
        self.preview: Codec = self  # decodes what is only looked at
        self.fingerprint = folder.fingerprint()
        self.image_channels, self.downscale = autoencoder.image_channels, autoencoder.downscale
        self.num_moments, self.is_gaussian = autoencoder.num_moments, autoencoder.is_gaussian
        self.latent_channels = self.num_moments // 2 if self.is_gaussian else self.num_moments
        self.with_normalisation([1.0] * self.latent_channels, [0.0] * self.latent_channels)

    def with_normalisation(self, scale: Sequence[float] | None, shift: Sequence[float] | None) -> Self:
        """Set the normalisation of each latent channel, None: by the file's own statistics; return the codec itself."""
        self.per_channel = None if scale is None or shift is None else (tuple(scale), tuple(shift))
        if self.per_channel is None:
            if self.autoencoder.statistics is None:
                raise DitError(f"{self.folder.path}: expected statistics of latents in its file, found none")
            mean, std = self.autoencoder.statistics  # (C, h, w) each
            self.scale, self.shift = (1 / std).to(self.device), mean.to(self.device)
            return self
        for name, values in zip(("scale", "shift"), self.per_channel, strict=True):
            if len(values) != self.latent_channels:
                raise ConfigError(
                    f"latents.{name}: expected {self.latent_channels} numbers, one per channel of "
                    f"{self.folder.source!r}, found {len(values)}"
                )
        self.scale, self.shift = (
            torch.tensor(values, device=self.device).view(-1, 1, 1) for values in self.per_channel
        )
        return self

    @property
    def device(self) -> torch.device:
        """Where the autoencoder is."""
        return next(self.autoencoder.parameters()).device

    def exact(self) -> Self:
        """Decode in the type of the weights, also where bfloat16 would be faster, and return the codec itself."""
        self.decoder_dtype = self.dtype
        return self

    def in_tiles(self, tile: int | None) -> Self:
        """Decode image by image in tiles of so many positions a side, None: in one piece; return the codec itself.

        Raises:
            ConfigError: a tile is too small, or the autoencoder makes images of one size alone.
        """
        if tile is not None and tile < MIN_TILE:
            raise ConfigError(f"decoder_tile: expected at least {MIN_TILE}, found {tile}")
        if tile is not None and self.autoencoder.image_size is not None:
            raise ConfigError(
                f"decoder_tile: expected none, for {self.folder.source!r} makes images of one size alone, found {tile}"
            )
        self.tile = tile
        return self

    def slice_size_on(self, device: torch.device, height: int, width: int) -> int:
        """Return how many images of this size are decoded at a time unless `slice_size` says so."""
        return 1 if self.tile is not None else slice_size_on(device, height, width)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the autoencoder's weights."""
        return next(self.autoencoder.parameters()).dtype

    def to(self, device: str | torch.device) -> Self:
        """Move to a device."""
        self.autoencoder.to(device)
        if self.preview is not self:
            self.preview.to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        return self

    def latent_size(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the latents of an image.

        Raises:
            ConfigError: the autoencoder can't make that size.
        """
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if self.autoencoder.image_size not in (None, height) or self.autoencoder.image_size not in (None, width):
            raise ConfigError(
                f"data.image_size: expected {self.autoencoder.image_size}, the one size of {self.folder.source!r}, "
                f"found {height if height == width else (height, width)}"
            )
        if height < 1 or width < 1 or height % self.downscale or width % self.downscale:
            raise ConfigError(
                f"data.image_size: expected a multiple of {self.downscale}, the downscaling of {self.folder.source!r}, "
                f"found {height if height == width else (height, width)}"
            )
        return height // self.downscale, width // self.downscale

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images to moments.

        Args:
            images: (B, channels, H, W); floating point in [-1, 1], or uint8 in 0..255, as `decode` returns them.

        Returns:
            (B, M, h, w) float32.

        Raises:
            ConfigError: images of another shape or type.
        """
        if images.ndim != 4 or images.shape[1] != self.image_channels:
            raise ConfigError(f"encode: expected images (B, {self.image_channels}, H, W), found {tuple(images.shape)}")
        self.latent_size((images.shape[2], images.shape[3]))
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            images = images.float().div_(127.5).sub_(1)
        elif not images.is_floating_point():
            raise ConfigError(f"encode: expected images in floating point or uint8, found {images.dtype}")
        with tf32_products(self.device):
            return self.autoencoder.encode(images.to(self.dtype)).float()

    def draw(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Draw z (B, C, h, w) from moments (B, M, h, w) with standard normal noise; M = C: the moments are z."""
        if moments.shape[1] == self.latent_channels:
            return moments
        assert noise is not None, "an autoencoder whose posterior has a variance takes noise"
        mean, log_var = moments.chunk(2, dim=1)  # (B, C, h, w) each
        return mean + (0.5 * log_var.clamp(*LOG_VAR_RANGE)).exp() * noise

    def normalise(self, z: Tensor) -> Tensor:
        """Normalise z (B, C, h, w) per channel."""
        return (z - self.shift.to(z.device)) * self.scale.to(z.device)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undo `normalise`."""
        return latents / self.scale.to(latents.device) + self.shift.to(latents.device)

    def latents_from_moments(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Draw and normalise: (B, C, h, w)."""
        return self.normalise(self.draw(moments, noise))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents, always the same number of images at a time.

        So memory is bounded, and an image has the same bytes in any batch: arithmetic differs in the last bits between
        batch sizes, which is why a last slice is filled up.

        Args:
            latents: (B, C, h, w) float.

        Returns:
            (B, channels, H, W) uint8: 127.5 (x + 1) clamped to [0, 255] and rounded, see `rounding`.

        Raises:
            DitError: there is NaN or infinity in the decoded image.
        """
        images, is_finite = self._decode(latents)
        _check_finite(is_finite)
        return images

    @torch.no_grad()
    def begin_decode(self, latents: Tensor) -> Callable[[], Tensor]:
        """Begin `decode`, whose arguments and errors these are, without waiting for a GPU.

        Returns:
            A function, for any thread, that waits and returns the images on the CPU.
        """
        images, is_finite = map(Pending, self._decode(latents))

        def finish() -> Tensor:
            _check_finite(is_finite.read())
            return images.read()

        return finish

    def _decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as `decode` does, and whether they are all finite, ()."""
        height, width = (size * self.downscale for size in latents.shape[-2:])
        slice_size = self.slice_size or self.slice_size_on(self.device, height, width)
        padding = -len(latents) % slice_size
        filled = nn.functional.pad(latents.to(self.device), (0, 0) * 3 + (0, padding))  # zeros are a common latent
        with tf32_products(self.device):
            parts = [self._decode_slice(part) for part in filled.split(slice_size)]
        # One answer for all, for on a GPU it is waited for.
        is_finite = torch.stack([is_finite for _, is_finite in parts]).all()
        return torch.cat([images for images, _ in parts])[: len(latents)], is_finite

    def describe(self) -> LatentsDescription:
        """Return what `from_description` needs, for an exported folder's config.json.

        An autoencoder of the user's is called by the place of its copy: a path of this machine means nothing elsewhere.
        """
        return LatentsDescription(
            vae=COPY_NAME if self.folder.is_local else self.folder.source,
            revision=self.folder.revision,
            fingerprint=self.fingerprint,
            class_name=self.class_name,
            image_channels=self.image_channels,
            latent_channels=self.latent_channels,
            downscale=self.downscale,
            scale=self.per_channel and tuple(self.scale.flatten().tolist()),
            shift=self.per_channel and tuple(self.shift.flatten().tolist()),
        )

    @classmethod
    def from_description(
        cls,
        description: LatentsDescription,
        *,
        folder: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load the codec that `describe` described.

        Args:
            description: from `describe`.
            folder: exported folder or run; where it holds `vae/` (see `save`), that is the autoencoder.
            device: where to compute; the CPU by default.
            dtype: of the autoencoder's weights and arithmetic; float32 by default.

        Raises:
            ConfigError: there is no such autoencoder.
            DitError: it is not the one that was described, or it is damaged; both fingerprints are shown.
        """
        found = _described_folder(description, folder)
        codec = cls(load_autoencoder(found, dtype or torch.float32), found)
        # The published weights of others come without a fingerprint.
        if description.fingerprint not in (None, codec.fingerprint):
            raise DitError(
                f"{found.path}: expected the autoencoder with fingerprint {description.fingerprint}, found "
                f"{codec.fingerprint}; restore the one that the model was trained with"
            )
        return codec.with_normalisation(description.scale, description.shift).to(device or "cpu")

    def save(self, folder: str | Path) -> None:
        """Copy an autoencoder of the user's into `folder`/vae; embedded ones and those on the Hub need no copy.

        Raises:
            ConfigError: there is another one already.
        """
        target = Path(folder) / COPY_NAME
        if not self.folder.is_local:
            return
        if (target / CONFIG_NAME).is_file() and replace(self.folder, path=target).fingerprint() == self.fingerprint:
            return
        self.folder.copy(target)

    def _decode_slice(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if self.decoder_dtype is None:
            self.decoder_dtype = speed_up_decoder(self.autoencoder, self.device)
        z = self.denormalise(latents).to(self.decoder_dtype, memory_format=torch.channels_last)
        if self.tile is None:
            images = self.autoencoder.decode(z).float()  # (B, channels, H, W)
        else:
            images = decode_in_tiles(self.autoencoder.decode, z, tile=self.tile, downscale=self.downscale)
        half = 0.5 if self.rounding == "nearest" else 0.0  # the conversion truncates
        return (127.5 * images + (127.5 + half)).clamp(0, 255).to(torch.uint8), images.isfinite().all()


def _check_finite(is_finite: Tensor) -> None:
    if not is_finite:
        raise DitError("decode: expected finite pixels, found NaN or infinity; the latents or the weights are bad")


def slice_size_on(device: torch.device, height: int, width: int) -> int:
    """Return how many images of this size are decoded at a time; pictures depend on it by rounding."""
    return max(1, DECODED_PIXELS // (height * width)) if device.type == "cpu" else DECODED_IMAGES


def _described_folder(description: LatentsDescription, folder: str | Path | None) -> AutoencoderFolder:
    source, revision = description.vae, description.revision
    if source == COPY_NAME:
        copy = Path(folder or ".") / COPY_NAME
        if not (copy / CONFIG_NAME).is_file():
            raise DitError(f"{copy}: expected a copy of the autoencoder that the model was trained with, found none")
        return AutoencoderFolder(copy, source, revision=None, is_local=True)
    return find_autoencoder(source if revision is None else f"{source}@{revision}")


def own_normalisation(own: Mapping[str, Any], num_channels: int) -> tuple[list[float], list[float]] | None:
    """Return scale and shift of each channel as config.json has them; None where it has no scale.

    There may be `scaling_factor` and `shift_factor`, per-channel `latents_mean` and `latents_std`, or both kinds: then
    latents are (z - mean) * scaling_factor / std, as in diffusers' pipelines.
    """
    factor, std = own.get("scaling_factor"), own.get("latents_std")
    shift = own.get("latents_mean") or [own.get("shift_factor") or 0.0] * num_channels
    if factor is None and std is None:
        return None
    return [(1.0 if factor is None else factor) / value for value in std or [1.0] * num_channels], shift


def _normalisation(
    own: Mapping[str, Any], config: LatentsConfig, codec: Codec
) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Return scale and shift of each channel: the recipe's, or the autoencoder's own; None for those in its file."""
    num_channels = codec.latent_channels
    scale = [config.scale] * num_channels if config.scale is not None else None
    scale = [1 / value for value in config.std] if config.std is not None else scale
    shift = config.mean or ([config.shift] * num_channels if config.shift is not None else None)
    if codec.autoencoder.statistics is not None:
        if (scale is None) != (shift is None):
            raise ConfigError(
                f"latents: {config.vae!r} has its own normalisation per position; give both scale (or std) and shift "
                "(or mean) in its place, or neither"
            )
        return scale, shift
    published = own_normalisation(own, num_channels)
    if config.normalise == "measured":  # from the training set, once it is encoded
        return published or ([1.0] * num_channels, [0.0] * num_channels)
    if published is None and scale is None:
        raise ConfigError(
            f"latents.scale: {config.vae!r} has neither scaling_factor nor latents_std; give scale or std"
        )
    own_shift = own.get("latents_mean") or [own.get("shift_factor") or 0.0] * num_channels
    return scale or (published and published[0]), shift or own_shift

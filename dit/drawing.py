"""One picture of a trained model: what was asked for, the picture, and the command that makes it again, to the byte.

`dit sample` and the page of `dit demo` both draw here, so that a command printed by the one gives the other's file.
Importing it imports no torch.

N images of C channels.
"""

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from dit.making import Making

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from dit.sampling.config import SamplingConfig
    from dit.sampling.sampler import Callback
    from dit.zoo.pictures.pictures import Trajectory
    from dit.zoo.pipeline import Pipeline

BATCH_SIZE = 32
INVERSION_STEPS = 50
"""Least steps of an inversion by the model's own solver: what is enough to make an image loses too much on the way."""
_PLAIN = ("steps", "solver", "guidance", "guidance_interval", "cache")
"""Fields of the sampling section that are options under their own names."""
_PREVIEW = "preview_decoder"


@dataclass(frozen=True)
class Request:
    """What decides a picture, by the names of the options of `dit sample`; None: not given."""

    source: str
    """The model."""
    making: Making = field(default_factory=Making)
    """Settings, and what they were made with."""
    classes: str | None = None
    """Ids or names."""
    num: int | None = None
    """Number of images."""
    only: int | None = None
    """The one image that is shown, counted from 0."""
    seed: int = 0
    """Of the noise."""
    batch_size: int = BATCH_SIZE
    """Images at a time, on which rounding depends."""
    trajectory: bool = False
    """Whether a second picture shows how the samples come about."""
    inversion: str | None = None
    """Name of the image that is inverted."""
    interpolate: Literal["seeds", "classes"] | None = None
    """Between what is drawn."""

    def settled(self, pipeline: "Pipeline") -> Self:
        """Return it with the ids of its classes, which are the same whatever the names were."""
        from dit.zoo.labels import parse_classes

        if self.classes is None or pipeline.num_classes == 0:
            return self
        ids = parse_classes(self.classes, pipeline.class_names)
        return replace(self, classes=",".join(map(str, ids)))

    def without_trajectory(self) -> Self:
        """Return the request of the samples alone."""
        settings = {name: value for name, value in self.making.settings.items() if name != _PREVIEW}
        return replace(self, trajectory=False, making=replace(self.making, settings=settings))

    def command(self, *, out: str | None = None, trajectory: str = "trajectory.png") -> str:
        """Return the command line.

        What has its default is left out, and of a folder's path the last name is told.

        Args:
            out: file of the picture; None: the default.
            trajectory: file that shows how the samples come about, where that is wanted.
        """
        options = [*self._options(), ("trajectory", trajectory if self.trajectory else None), ("out", out)]
        words = [f"--{name}" if value is True else f"--{name} {shlex.quote(value)}" for name, value in options if value]
        return " ".join(["dit sample", shlex.quote(name_of(self.source)), *words])

    def _options(self) -> Iterator[tuple[str, str | Literal[True] | None]]:
        making = self.making
        yield "classes", self.classes
        yield "num", None if self.num is None else str(self.num)
        yield "only", None if self.only is None else str(self.only)
        yield "published", True if making.published else None
        plain = {name: making.settings[name] for name in _PLAIN if name in making.settings}
        for name, value in {**plain, **making.settings}.items():
            value = name_of(value) if name == _PREVIEW and value is not None else value
            yield (name if name in _PLAIN else f"sampling.{name}"), _text(name, value)
        for name in ("guide", "adapter"):
            value = getattr(making, name)
            yield name, None if value is None else name_of(value)
        yield "quantize", making.quantize
        yield "rounding", making.rounding
        yield "seed", str(self.seed) if self.seed else None
        yield "batch_size", str(self.batch_size) if self.batch_size != BATCH_SIZE else None
        yield "inversion", self.inversion
        yield "interpolate", self.interpolate


def name_of(source: str | Path) -> str:
    """Return what a picture's file may say of a source: a zoo name or Hub id itself, of a path its last name."""
    path = Path(source)
    if not path.exists():
        return str(source)
    parts = path.resolve().parts[1:]
    return "/".join(parts[-2:] if parts[-1] == "export" else parts[-1:])


@dataclass(frozen=True)
class Drawn:
    """A picture, and what it shows."""

    picture: "Image.Image"
    """The whole."""
    request: Request
    """What was asked for, with the ids of its classes."""
    pipeline: "Pipeline"
    """Of which model."""
    sampling: "SamplingConfig"
    """How samples were drawn."""
    images: "Tensor | None" = None
    """(N, C, height, width) uint8 samples, where the picture is a grid of them."""
    labels: tuple[int, ...] = ()
    """Class of each, or of each row."""
    trajectory: "Trajectory | None" = None
    """How they came about."""
    words: tuple[str, ...] = ()
    """Lines that explain the picture."""

    def one(self, position: int) -> "Drawn":
        """Return the picture of one of the images alone."""
        from dit.data.picture import image_grid
        from dit.errors import ConfigError

        assert self.images is not None
        if not 0 <= position < len(self.images):
            raise ConfigError(f"--only: expected an image from 0 to {len(self.images) - 1}, found {position}")
        images = self.images[position : position + 1]
        request = replace(self.request, only=position)
        label = self.labels[position : position + 1]
        return replace(self, picture=image_grid(images, columns=1), request=request, images=images, labels=label)

    def png(self, *, strip: bool = False) -> bytes:
        """Return the picture's PNG file, or that of the denoising strip, which holds the command and the settings."""
        from dit.png_info import png_file
        from dit.zoo.pictures.pictures import trajectory_strip

        picture, request = self.picture, self.request
        if strip:
            assert self.trajectory is not None
            picture = trajectory_strip(self.pipeline, self.trajectory)
        elif len(self.labels) <= request.batch_size:  # more are traced in a larger batch than they are sampled in
            request = request.without_trajectory()
        return png_file(picture, Command=request.command(), Settings=json.dumps(self._settings()))

    def _settings(self) -> dict[str, Any]:
        pipeline, request = self.pipeline, self.request
        return {
            "model": name_of(request.source),
            "classes": [pipeline.class_names[label] for label in self.labels] if pipeline.num_classes else [],
            "seed": request.seed,
            "published": request.making.published,
            "sampling": self.sampling.model_dump(mode="json", exclude={_PREVIEW}),
            "rounding": pipeline.codec.rounding,
            "precision": pipeline.precision,
            "device": pipeline.device.type,
        }


def draw(
    pipeline: "Pipeline", request: Request, *, image: bytes | None = None, callback: "Callback | None" = None
) -> Drawn:
    """Draw a picture.

    Args:
        pipeline: the model of the request, as its `making` loads it.
        request: what is wanted.
        image: the file that is inverted, where that is wanted.
        callback: sees every step; an inversion goes through its steps twice, from data to noise and back.

    Raises:
        ConfigError: an unknown class, or a value out of range.
        DitError: the network returned NaN or infinity, or the image is broken.
    """
    request = request.settled(pipeline)
    if request.inversion is not None:
        return _inverted(pipeline, request, image or b"", callback)
    if request.interpolate is not None:
        return _interpolated(pipeline, request, callback)
    drawn = _traced(pipeline, request, callback) if request.trajectory else _sampled(pipeline, request, callback)
    return drawn if request.only is None else drawn.one(request.only)


def inversion_defaults(own: "SamplingConfig") -> dict[str, Any]:
    """Return what differs from a model's own settings where an image is inverted and the user does not say otherwise.

    Guidance is off, and where the model's own solver can't go from data to noise, Heun's method takes its place.
    """
    from dit.sampling.solvers.step import create_solver

    if create_solver(own.solver).is_invertible:
        return {"steps": max(own.steps, INVERSION_STEPS), "guidance": 1.0}
    return {"solver": "heun", "guidance": 1.0}


def inversion_settings(pipeline: "Pipeline", given: Mapping[str, Any]) -> "SamplingConfig":
    """Return how an image is inverted; see `inversion_defaults`."""
    return pipeline.settings(**inversion_defaults(pipeline.config.sampling) | dict(given))


def _sampled(pipeline: "Pipeline", request: Request, callback: "Callback | None") -> Drawn:
    from dit.data.picture import image_grid

    settings, size = dict(request.making.settings), request.batch_size
    wanted = {"num": request.num, "seed": request.seed, "batch_size": size}
    images = pipeline.sample_images(request.classes, callback=callback, **wanted, **settings)
    labels = tuple(pipeline.labels(request.classes, request.num).tolist())
    picture = image_grid(images, columns=columns(len(images), len(pipeline.labels(request.classes))))
    return Drawn(picture, request, pipeline, pipeline.settings(**settings), images, labels)


def _traced(pipeline: "Pipeline", request: Request, callback: "Callback | None") -> Drawn:
    from dit.data.picture import image_grid
    from dit.latents.preview import load_preview
    from dit.zoo.pictures.pictures import trace

    labels = pipeline.labels(request.classes, request.num)
    sampling = pipeline.settings(**request.making.settings)
    if sampling.preview_decoder is not None:
        pipeline.codec.preview = load_preview(sampling.preview_decoder, pipeline.codec)
    trajectory = trace(pipeline, labels, sampling, seed=request.seed, callback=callback)
    images = pipeline.decode(trajectory.states[-1])
    picture = image_grid(images, columns=columns(len(labels), len(labels)))
    return Drawn(picture, request, pipeline, sampling, images, tuple(labels.tolist()), trajectory)


def _interpolated(pipeline: "Pipeline", request: Request, callback: "Callback | None") -> Drawn:
    from dit.zoo.pictures.pictures import interpolate

    assert request.interpolate is not None
    labels = pipeline.labels(request.classes, request.num)
    sampling = pipeline.settings(**request.making.settings)
    between: dict[str, Any] = {"between": request.interpolate, "seed": request.seed}
    picture = interpolate(pipeline, labels, sampling, callback=callback, **between)
    return Drawn(picture, request, pipeline, sampling, labels=tuple(labels.tolist()))


def _inverted(pipeline: "Pipeline", request: Request, image: bytes, callback: "Callback | None") -> Drawn:
    import torch

    from dit.data.config import DataConfig
    from dit.data.decode import decode_image
    from dit.errors import ConfigError
    from dit.zoo.pictures.pictures import invert_image

    labels = pipeline.labels(request.classes)
    if request.classes is None and pipeline.num_classes > 1:
        raise ConfigError("--classes: expected the class of the image, found none")
    if len(labels) > 1:
        raise ConfigError(f"--classes: expected the class of the image, found {len(labels)} classes")
    size, channels = pipeline.image_size[0], pipeline.codec.image_channels
    limit, name = DataConfig().max_pixels, str(request.inversion)
    pixels = decode_image(image, size=size, channels=channels, max_pixels=limit, name=name)
    tensor = torch.tensor(pixels).permute(2, 0, 1)[None]  # (1, C, height, width)
    sampling = inversion_settings(pipeline, request.making.settings)
    result = invert_image(pipeline, tensor, int(labels[0]), sampling, seed=request.seed, callback=callback)
    words = (
        f"there and back by {sampling.solver.name} in {sampling.steps} steps each, guidance {sampling.guidance:g}",
        "from left to right: the image, decoded from its latent, its noise, made from that noise",
        f"reconstruction error: {result.latent_error:.4f} in latents of unit variance (root mean square)",
        f"                      {result.pixel_error:.2f} of 255 in pixels, against the codec's own reconstruction",
        f"deviation of the noise found: {result.noise_deviation:.3f} (1 for an image of the training distribution)",
    )
    named = replace(request, inversion=Path(name).name)
    return Drawn(result.picture, named, pipeline, sampling, labels=tuple(labels.tolist()), words=words)


def columns(num: int, num_classes: int) -> int:
    """Return columns so that each holds one class, where that is a sensible width."""
    return num_classes if 1 < num_classes <= 16 else min(num, math.ceil(math.sqrt(num)))


def _text(name: str, value: Any) -> str:
    """Return a value as an option's text, which reads as the same value: in YAML but for the interval of guidance."""
    if name == "guidance_interval" and isinstance(value, list):
        return ",".join(map(_number, value))
    if isinstance(value, str):
        return value
    return _number(value) if isinstance(value, float) else json.dumps(value)


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)

"""From the fields of the page to a request of `dit sample`: what a visitor may ask for, and the limits of it.

A browser is not to be trusted: any field may hold anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dit.drawing import Request, inversion_defaults
from dit.errors import ConfigError
from dit.making import Making, checked_settings, sampling_settings

if TYPE_CHECKING:
    from dit.demo.models import Models
    from dit.sampling.config import SamplingConfig
    from dit.zoo.folder.config import FolderConfig

Kind = Literal["samples", "denoising", "classes", "seeds", "inversion"]
MAX_NUM = 32
"""Most images of one job, which are made at once."""
MAX_ROWS = 10
"""Most rows of a picture of several images each."""
MAX_STEPS, MAX_GUIDANCE, MAX_SEED = 1000, 100.0, 2**53 - 1
MAX_UPLOAD = 10 * 10**6
"""Bytes of an uploaded picture."""
EVERYWHERE = (0.0, 1.0)


@dataclass(frozen=True)
class Settings:
    """A model and how its samples are drawn, as the page says it."""

    model: str
    published: Any = False
    steps: Any = None
    solver: Any = None
    guidance: Any = None
    low: Any = None
    high: Any = None

    @classmethod
    def of(cls, model: str, config: "FolderConfig", *, published: bool, inverts: bool = False) -> "Settings":
        """Return what a model is drawn with, or inverts a picture with, where the user changes nothing."""
        published = published and config.published is not None
        own = own_sampling(config, published=published)
        values = {"steps": own.steps, "solver": own.solver.name, "guidance": own.guidance}
        values |= inversion_defaults(own) if inverts else {}
        low, high = own.guidance_interval or EVERYWHERE
        return cls(model, published, **values, low=low, high=high)


@dataclass(frozen=True)
class Form:
    """The other fields of the page."""

    kind: Kind = "samples"
    classes: Sequence[Any] = ()
    """Names or ids; none: every class in turn."""
    num: Any = 10
    seed: Any = 0
    picture: tuple[str, bytes] | None = field(default=None, repr=False)
    """Name and bytes of what was uploaded."""


def own_sampling(config: "FolderConfig", *, published: bool) -> "SamplingConfig":
    """Return a model's fast defaults, or its published setting."""
    return config.published.sampling if published and config.published is not None else config.sampling


def request_of(models: "Models", settings: Settings, form: Form) -> Request:
    """Return what the page asks for.

    Raises:
        ConfigError: naming the field of the page.
    """
    from dit.zoo.labels import parse_classes

    source, config = models.source(settings.model), models.config(settings.model)
    if len(form.classes) > MAX_NUM:
        raise ConfigError(f"Classes: expected at most {MAX_NUM}, found {len(form.classes)}")
    ids = [i for word in form.classes for i in parse_classes(str(word)[:200], config.class_names)]
    num = _whole("Number of pictures", form.num, 1, MAX_NUM)
    seed = _whole("Seed", form.seed, 0, MAX_SEED)
    classes = ",".join(map(str, ids)) or None
    making = _making(config, settings)
    if form.kind == "inversion":
        name, _ = checked_picture(form, num_classes=config.num_classes, num_chosen=len(ids))
        return Request(source, making, classes, seed=seed, inversion=name)
    if form.kind in ("samples", "denoising"):
        if form.kind == "denoising" and num > MAX_ROWS:
            raise ConfigError(f"Number of pictures: expected at most {MAX_ROWS} to be shown step by step, found {num}")
        return Request(source, making, classes, num, seed=seed, trajectory=form.kind == "denoising")
    if form.kind not in ("classes", "seeds"):
        raise ConfigError(f"What to make: expected one of the page's choices, found {form.kind!r}")
    num_rows, fewest = len(ids) or config.num_classes or 1, 2 if form.kind == "classes" else 1
    if not fewest <= num_rows <= MAX_ROWS:
        raise ConfigError(f"Classes: expected {fewest} to {MAX_ROWS}, a row for each, found {num_rows}")
    return Request(source, making, classes, seed=seed, interpolate=form.kind)


def checked_picture(form: Form, *, num_classes: int, num_chosen: int) -> tuple[str, bytes]:
    """Return the name and the bytes of the picture that is to be inverted.

    Raises:
        ConfigError: there is none, it is too large, or its class was not told.
    """
    if form.picture is None:
        raise ConfigError("Picture: expected an image file, found none; upload one")
    name, content = form.picture
    if len(content) > MAX_UPLOAD:
        raise ConfigError(f"Picture: expected at most {MAX_UPLOAD // 10**6} MB, found {len(content) / 1e6:.1f} MB")
    if num_classes > 1 and num_chosen != 1:
        raise ConfigError(f"Classes: expected the one class of the picture, found {num_chosen}")
    return name, content


def _making(config: "FolderConfig", settings: Settings) -> Making:
    """Return how samples are drawn; an interval that acts everywhere is told only to a model whose own does not."""
    published = bool(settings.published) and config.published is not None
    own = own_sampling(config, published=published)
    interval = [_real("Guidance from", settings.low, 0, 1), _real("Guidance to", settings.high, 0, 1)]
    is_own = tuple(interval) == tuple(own.guidance_interval or EVERYWHERE)
    if not is_own and interval[0] >= interval[1]:
        raise ConfigError(f"Guidance from, to: expected a lower and a higher time, found {interval[0]}, {interval[1]}")
    given = sampling_settings(
        None,
        steps=_whole("Steps", settings.steps, 1, MAX_STEPS),
        solver=str(settings.solver),
        guidance=_real("Guidance", settings.guidance, 0, MAX_GUIDANCE),
        guidance_interval=None if is_own else interval,
    )
    return Making(checked_settings(own, given), published)


def _whole(field: str, value: Any, lowest: int, highest: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not lowest <= value <= highest:
        shown = "nothing" if value is None else value
        raise ConfigError(f"{field}: expected a whole number from {lowest} to {highest}, found {shown}")
    return value


def _real(field: str, value: Any, lowest: float, highest: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not lowest <= value <= highest:
        shown = "nothing" if value is None else value
        raise ConfigError(f"{field}: expected a number from {lowest:g} to {highest:g}, found {shown}")
    return float(value)

"""What a job of the page does: load a model, draw, show what there is by now, and keep the files."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit.demo.jobs import Job
from dit.demo.models import Models
from dit.demo.pictures import Pictures
from dit.drawing import Drawn, Request, columns, draw, inversion_settings, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from dit.sampling.config import SamplingConfig
    from dit.zoo.pipeline import Pipeline

MAX_LOOKS = 8
"""Most looks at the samples while they are made, evenly over the steps."""
PREVIEW_SHARE = 0.25
"""Largest share of the time that they may take."""
SMALL_TILE = 64
"""Images up to so many pixels are shown losslessly before they are done."""


@dataclass(frozen=True)
class Tile:
    """One image on the page."""

    address: str
    """Where it is: on the server, or a data URI while it is not done."""
    words: str
    """What it shows."""
    filename: str = ""
    """Name under which it is downloaded; none: it is not done."""


@dataclass(frozen=True)
class Made:
    """What a request gave, ready to be shown."""

    tiles: tuple[Tile, ...]
    """The images; one for a picture of several."""
    whole: Tile
    """The picture of them all."""
    columns: int
    """Images in a row."""
    command: str
    """What makes the picture again."""
    words: tuple[str, ...]
    """Lines that explain it."""
    seconds: float
    """Time that it took."""


def make(job: Job, models: Models, model: str, request: Request, pictures: Pictures, image: bytes | None) -> Made:
    """Do what was asked for; the job's owner sees the steps, and stops it."""
    job.say(f"Loading {model}")
    pipeline = models.load(model, request.making)
    job.check()
    sampling = _sampling(pipeline, request)
    ways = 2 if request.inversion else 1
    job.say("Sampling", total=ways * sampling.steps)
    began = time.perf_counter()
    callback = _watch(job, pipeline, request, sampling)
    with _stoppable(job, pipeline):
        drawn = draw(pipeline, request, image=image, callback=callback)
    return _kept(drawn, pictures, time.perf_counter() - began)


def _sampling(pipeline: "Pipeline", request: Request) -> "SamplingConfig":
    given = request.making.settings
    return inversion_settings(pipeline, given) if request.inversion else pipeline.settings(**given)


def _watch(
    job: Job, pipeline: "Pipeline", request: Request, sampling: "SamplingConfig"
) -> Callable[[int, float, "Tensor", "Tensor"], None]:
    """Return a callback that counts steps and now and then decodes what the network takes the data to be."""
    from dit.latents.preview import load_preview

    if sampling.preview_decoder is not None and pipeline.codec.preview is pipeline.codec:
        pipeline.codec.preview = load_preview(sampling.preview_decoder, pipeline.codec)
    every, began, spent = -(-sampling.steps // MAX_LOOKS), time.perf_counter(), 0.0

    def watch(k: int, _t: float, _x: "Tensor", x_0: "Tensor") -> None:
        nonlocal spent
        preview, now = None, time.perf_counter()
        if k % every == 0 and k + 1 < sampling.steps and spent <= PREVIEW_SHARE * (now - began):
            preview = _preview(pipeline, request, x_0)
            spent += time.perf_counter() - now
        job.step(preview)

    return watch


def _preview(pipeline: "Pipeline", request: Request, x_0: "Tensor") -> tuple[list[Tile], int]:
    """Return the images as they are by now, and how many are in a row."""
    from dit.zoo.pipeline import to_pictures

    pictures = to_pictures(pipeline.codec.preview.decode(x_0))
    tiles = []
    for picture in pictures:
        buffer, kind = io.BytesIO(), "PNG" if min(picture.size) <= SMALL_TILE else "JPEG"
        picture.save(buffer, format=kind)
        data = base64.b64encode(buffer.getvalue()).decode()
        tiles.append(Tile(f"data:image/{kind.lower()};base64,{data}", "", ""))
    return tiles, 8 if request.interpolate else _across(pipeline, request, len(tiles))


@contextmanager
def _stoppable(job: Job, pipeline: "Pipeline") -> Iterator[None]:
    """Stop the network between two of its blocks: a step of a large one takes long."""
    blocks = pipeline.model.block_list()
    hooks = [block.register_forward_pre_hook(lambda *_: job.check()) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _kept(drawn: Drawn, pictures: Pictures, seconds: float) -> Made:
    """Keep the files, and return what the page shows of them."""
    request, is_strip = drawn.request, drawn.trajectory is not None
    stem = f"{name_of(request.source).replace('/', '_')}_{_what(request)}_seed{request.seed}"
    whole = Tile(pictures.add(drawn.png(strip=is_strip)), _what(request), f"{stem}.png")
    tiles = (whole,)
    if drawn.images is not None and not is_strip:
        names = [_class_name(drawn, label) for label in drawn.labels]
        tiles = tuple(Tile(pictures.add(drawn.one(i).png()), name, f"{stem}_{i}.png") for i, name in enumerate(names))
    files = {"out": f"{stem}_last.png", "trajectory": whole.filename} if is_strip else {"out": whole.filename}
    command = request.command(**files)
    across = _across(drawn.pipeline, request, len(tiles))
    return Made(tiles, whole, across, command, (_how(drawn), *_explained(drawn)), seconds)


def _across(pipeline: "Pipeline", request: Request, num: int) -> int:
    return min(columns(num, len(pipeline.labels(request.classes))), num)


def _class_name(drawn: Drawn, label: int) -> str:
    pipeline = drawn.pipeline
    return pipeline.class_names[label].split(",")[0] if pipeline.num_classes else "sample"


def _what(request: Request) -> str:
    if request.inversion:
        return "inversion"
    if request.interpolate:
        return f"between_{request.interpolate}"
    return "denoising" if request.trajectory else "samples"


def _how(drawn: Drawn) -> str:
    """Return the settings in a line."""
    sampling = drawn.sampling
    parts = [f"{sampling.solver.name}, {sampling.steps} steps, guidance {sampling.guidance:g}"]
    if sampling.guidance_interval is not None:
        parts.append(f"from {sampling.guidance_interval[0]:g} to {sampling.guidance_interval[1]:g}")
    return " ".join(parts) + f", seed {drawn.request.seed}"


def _explained(drawn: Drawn) -> list[str]:
    """Return the lines that explain a picture, but for the settings; a line that begins with spaces goes on."""
    lines: list[str] = []
    for line in drawn.words[2:]:
        if line.startswith(" ") and lines:
            lines[-1] += f", {line.strip()}"
        else:
            lines.append(line[:1].upper() + line[1:])
    return lines

"""Many images, in any number of processes, with nothing made twice.

Image i has the i-th label, the seed's noise at position i, and is made in batch i // batch_size whatever the number of
processes: so its bytes do not depend on that number, nor on an interruption. Processes take the batches in turn. What
is there already is kept; a folder or part of other settings is refused, but a folder takes further images.

A folder gets `000000.png` ..., `labels.json` and `sampling.json`. An `.npz` file gets what ADM's evaluator reads,
`arr_0` (N, height, width, channels) uint8 and `arr_1` (N,) int64, the labels; and `about`, how they were made, in JSON.
The first process gathers it from parts beside it, when all are there.

Threads turn a batch into files while the next one is sampled. A GPU decodes in the order in which it was asked, so that
only they wait for it; bytes do not depend on them.
"""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from dit.display import Progress
from dit.errors import ConfigError
from dit.files import begin_folder, check_same, write_bytes, write_json
from dit.latents.codec import slice_size_on
from dit.latents.writer import Writer
from dit.launcher import wait_for_files
from dit.npz import NpzReader, write_npz
from dit.sampling.config import SamplingConfig, from_first_format, is_first_format
from dit.validation import validate
from dit.zoo.pipeline import Pipeline, to_pictures

SETTINGS_NAME = "sampling.json"
LABELS_NAME = "labels.json"
LATER = {"compiled": "off", "decoder_tile": None}
"""What earlier versions did not write."""
GPU_WRITERS = 4
"""Threads that write beside a GPU, which makes images faster than one of them compresses."""


@dataclass(frozen=True)
class ManyImages:
    """What is to be made; the same description gives the same bytes."""

    labels: Tensor
    """(N,) int64 class of each image."""
    sampling: SamplingConfig
    """Solver, steps, grid and guidance."""
    seed: int
    """Seed of the noise."""
    batch_size: int
    """Images in a batch; it is part of the description, for rounding may depend on it."""
    weights: dict[str, str]
    """File name -> sha256 of the model's weights, and of its guide's."""
    order: str = "given"
    """How the labels were chosen: drawn, balanced (in turn), or given, several or one, in turn."""
    rounding: str = "nearest"
    """How pixels become bytes."""
    autoencoder: str | None = None
    """Fingerprint of what decodes."""
    precision: str = "float32"
    """Number type of the blocks, or how they are quantised."""
    compilation: str = "off"
    """How the network is compiled."""
    decoder_tile: int | None = None
    """Side, in latent positions, of the tiles that are decoded; None: in one piece."""

    def about(self) -> dict[str, Any]:
        """Return everything that decides the bytes but the labels themselves, as JSON values."""
        return {
            "seed": self.seed,
            "num": len(self.labels),
            "batch_size": self.batch_size,
            "sampling": self.sampling.model_dump(mode="json"),
            "weights_sha256": self.weights,
            "order": self.order,
            "rounding": self.rounding,
            "autoencoder": self.autoencoder,
            "precision": self.precision,
            "compiled": self.compilation,
            "decoder_tile": self.decoder_tile,
        }

    def description(self) -> dict[str, Any]:
        """Return everything that decides the bytes, as JSON values."""
        return {**self.about(), "labels": self.labels.tolist()}

    def batches(self, rank: int, num_processes: int) -> list[range]:
        """Return the positions of the batches that are this process's to make."""
        num = len(self.labels)
        starts = range(rank * self.batch_size, num, num_processes * self.batch_size)
        return [range(start, min(start + self.batch_size, num)) for start in starts]


def sample_to_folder(
    pipeline: Pipeline, wanted: ManyImages, folder: Path, *, rank: int = 0, num_processes: int = 1
) -> int:
    """Write numbered PNG files, one per image, and return how many this process made.

    Raises:
        ConfigError: the folder holds something else, or images of other settings.
        DitError: the network returned NaN or infinity; no image of that batch is written.
    """
    _begin(folder, wanted, pipeline, extend=True)

    def is_there(position: int) -> bool:
        return (folder / png_name(position)).is_file()

    def write(positions: range, images: Tensor) -> int:
        pictures = zip(positions, to_pictures(images), strict=True)
        missing = [(position, picture) for position, picture in pictures if not is_there(position)]
        for position, picture in missing:
            write_bytes(folder / png_name(position), _png(picture))
        return len(missing)

    made = _write_missing(pipeline, wanted, rank, num_processes, is_there, write)
    if rank == 0:
        write_json(folder / LABELS_NAME, {png_name(i): label for i, label in enumerate(wanted.labels.tolist())})
    return made


def sample_to_npz(pipeline: Pipeline, wanted: ManyImages, path: Path, *, rank: int = 0, num_processes: int = 1) -> int:
    """Write all images into one `.npz` file, and return how many this process made; the first one waits for the others.

    Raises:
        ConfigError: the file holds something else, or its parts are of other settings.
        DitError: the network returned NaN or infinity; that batch is not written.
    """
    if path.exists():
        return _check_finished(path, wanted)
    parts = path.with_name(f"{path.name}.parts")
    _begin(parts, wanted, pipeline)
    starts = range(0, len(wanted.labels), wanted.batch_size)
    paths = {start: parts / f"{start // wanted.batch_size:06d}.safetensors" for start in starts}

    def is_there(position: int) -> bool:
        return paths[position // wanted.batch_size * wanted.batch_size].is_file() or path.exists()

    def write(positions: range, images: Tensor) -> int:
        write_bytes(paths[positions[0]], save({"images": images.contiguous()}))
        return len(positions)

    made = _write_missing(pipeline, wanted, rank, num_processes, is_there, write)
    if rank == 0 and not path.exists():
        wait_for_files(paths.values())
        _gather(list(paths.values()), wanted, pipeline, path)
    if path.exists():  # a process that came late may have begun again what the first one had removed
        shutil.rmtree(parts, ignore_errors=True)
    return made


def png_name(position: int) -> str:
    """Return the file name of the image at a position."""
    return f"{position:06d}.png"


def _begin(folder: Path, wanted: ManyImages, pipeline: Pipeline, *, extend: bool = False) -> None:
    """Claim a new folder for these settings, or check that it was claimed for them, or `extend`: for fewer images.

    So many images are decoded at a time as when the folder was begun, on whatever device.
    """
    settings = folder / SETTINGS_NAME
    now = pipeline.codec.slice_size_on(pipeline.device, *pipeline.image_size)
    description: dict[str, Any] = wanted.description() | {"decoded_at_a_time": now}
    # An earlier version wrote none of these, and decoded as on a CPU.
    first = slice_size_on(torch.device("cpu"), *pipeline.image_size)
    unwritten = {key: description[key] for key in ("autoencoder", "order", "precision")}
    unwritten |= {"rounding": "nearest", "decoded_at_a_time": first, **LATER}
    found = unwritten | begin_folder(settings, description)
    if type(begun_with := found["decoded_at_a_time"]) is int and begun_with > 0:
        description["decoded_at_a_time"] = begun_with
    pipeline.codec.slice_size = description["decoded_at_a_time"]
    if is_first_format(found.get("sampling", {})):
        found["sampling"] = validate(SamplingConfig, from_first_format(found["sampling"]), origin=str(settings))
        found["sampling"] = found["sampling"].model_dump(mode="json")
    more = {key: description[key] for key in ("num", "labels")}
    begun = found.get("labels", [])
    if extend and len(begun) < more["num"] and begun == more["labels"][: len(begun)]:
        found |= more  # the images that are there are the first of those wanted now
    check_same(settings, found, description, remedy="choose another --out")
    if extend:
        write_json(settings, description)


def _write_missing(
    pipeline: Pipeline,
    wanted: ManyImages,
    rank: int,
    num_processes: int,
    is_there: Callable[[int], bool],
    write: Callable[[range, Tensor], int],
) -> int:
    """Make the batches of which an image is missing, and return how many images were written.

    Args:
        pipeline: the model.
        wanted: all images.
        rank: of this process.
        num_processes: that share them.
        is_there: whether the image at a position is.
        write: writes what is missing of images (B, C, height, width) uint8 at their positions, and says how many.
    """
    batches = wanted.batches(rank, num_processes)
    missing = [positions for positions in batches if not all(is_there(position) for position in positions)]
    start, made = len(batches) - len(missing), []
    num_threads = 1 if pipeline.device.type == "cpu" else GPU_WRITERS
    with (
        Progress(len(batches), "sample", unit="batches", start=start, enabled=rank == 0) as shown,
        Writer(num_threads) as writer,
    ):
        for positions in missing:
            labels = wanted.labels[positions.start : positions.stop]
            # The last batch is filled up, so that the shapes, and with them the rounding, are those of all others.
            padding = torch.zeros(wanted.batch_size - len(labels), dtype=labels.dtype)
            filled = range(positions.start, positions.start + wanted.batch_size)
            latents = pipeline.draw(torch.cat([labels, padding]), filled, wanted.sampling, wanted.seed).latents
            images = pipeline.begin_decode(latents)
            writer.start(partial(_write_decoded, positions, images, write, made))
            shown.advance()
    return sum(made)


def _write_decoded(
    positions: range, images: Callable[[], Tensor], write: Callable[[range, Tensor], int], made: list[int]
) -> None:
    made.append(write(positions, images()[: len(positions)]))


def _check_finished(path: Path, wanted: ManyImages) -> int:
    """Return that nothing is to be made, once a finished file holds what is wanted."""
    reader = NpzReader(path)
    about = LATER | reader.read_json("about")
    if about != about | wanted.about() or reader.read("arr_1").tolist() != wanted.labels.tolist():
        raise ConfigError(f"{path}: expected a new file, found one of other images; choose another or remove it")
    return 0


def _gather(parts: list[Path], wanted: ManyImages, pipeline: Pipeline, path: Path) -> None:
    about = wanted.about() | {"decoded_at_a_time": pipeline.codec.slice_size}
    _, channels, height, width = load_file(parts[0])["images"].shape
    with write_npz(path) as npz:
        with npz.rows("arr_0", (len(wanted.labels), height, width, channels), "uint8") as file:
            for part in parts:
                file.write(load_file(part)["images"].permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        npz.write("arr_1", wanted.labels.numpy())
        npz.write("about", np.array(json.dumps(about)))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()

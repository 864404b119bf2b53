"""`dit sample`: pictures from a trained model."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dit import launcher
from dit.making import Making, label_order, many_images, sampling_settings

if TYPE_CHECKING:
    from PIL import Image

    from dit.zoo.pipeline import Pipeline

SECTIONS = ("sampling",)
MAX_TILES = 4096
"""Most images in one picture."""
INVERSION_STEPS = 50
"""Least steps of an inversion by the model's own solver: what is enough to make an image loses too much on the way."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def run(
    source: str,
    /,
    classes: str | None = None,
    num: int | None = None,
    balanced: bool = False,
    drawn: bool = False,
    published: bool = False,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    guidance_interval: str | None = None,
    cache: Literal["off", "static", "taylor", "encoder"] | None = None,
    guide: str | None = None,
    adapter: Path | None = None,
    quantize: Literal["int8_weight", "int8"] | None = None,
    rounding: Literal["nearest", "down"] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    processes: int = 1,
    device: str | None = None,
    out: Path = Path("samples.png"),
    trajectory: Path | None = None,
    inversion: Path | None = None,
    interpolate: Literal["seeds", "classes"] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Draw images and write them as one picture, a folder of pictures or one .npz file.

    What is left out comes from the model's own sampling defaults, or with --published from the setting of its best
    published figure; `dit info SOURCE` shows both. Any other field of them can be set by --sampling.FIELD VALUE, such
    as --sampling.grid.last_step 0.04.

    Args:
        source: run folder, exported folder, .safetensors file of either, zoo name or Hub id.
        classes: ids or names separated by commas, used in turn; every class by default.
        num: number of images; one per class by default.
        balanced: in a folder or .npz: all classes in turn, and so equally often.
        drawn: in a folder or .npz: classes drawn at random, as by default unless --published says otherwise.
        published: sample as for the published figure: solver, steps, guidance, guide, labels of a folder or .npz,
            rounding and decoding autoencoder; options that are given beside it win.
        steps: solver steps, at least 1.
        solver: name of the solver; below, under --sampling.solver.name, is the list.
        guidance: scale of classifier-free guidance; 1 is off.
        guidance_interval: times between which guidance acts, such as 0.1,0.8; outside, the network is called once.
        cache: skip the blocks in every other call: reuse (static) or extrapolate (taylor) their work, or that of the
            network's encoder (encoder); images change.
        guide: source of a weaker model that guides in place of the null class (autoguidance).
        adapter: file of `dit export --adapter`, or its folder: low-rank updates that are merged into the weights.
        quantize: hold the blocks' weights in 8 bits (int8_weight), or compute their products so too (int8, for GPUs and
            for CPUs with VNNI or AMX); images change a little. Needs torchao, the extra `quantize`.
        rounding: how pixels become bytes: to the nearest, or down as several authors do; nearest by default.
        seed: seed of the noise; an image depends on it and on its own position alone.
        batch_size: images at a time; it changes memory and speed, not the images but for rounding.
        processes: for a folder or .npz: number of processes on this machine, each on an accelerator of its own where
            there are several; the images are the same.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        out: picture (.png, .jpg, .webp): a grid where there are several; .npz file, as ADM's evaluator reads it (arr_0
            uint8 images, arr_1 labels); or a folder of numbered .png files. Folders and .npz can be resumed by the same
            command, and made by several processes, by --processes or a launcher such as torchrun.
        trajectory: also write how the samples come about, as .gif or as .png strip.
        inversion: in place of sampling, take this image to its noise and back, and say how close it came; unless asked
            for otherwise without guidance, and by heun where the model's own solver can't go back.
        interpolate: in place of samples, draw what lies between two seeds or between neighbouring classes.
        overrides: dotted field of the sampling section -> value.
    """
    from dit.errors import ConfigError

    settings = sampling_settings(
        overrides, steps=steps, solver=solver, guidance=guidance, guidance_interval=guidance_interval, cache=cache
    )
    _check_places(out, num, trajectory, inversion, interpolate)
    is_many = out.suffix.lower() not in FORMATS
    launcher.check_processes(processes)
    if processes > 1 and not is_many:
        raise ConfigError(f"--processes: expected 1 for one picture, found {processes}; --out takes a folder or .npz")
    making = Making(settings, published, guide, rounding, quantize, adapter)
    own = making.locate(source).config  # answers a wrong source before torch is imported
    order = label_order(own.published if published else None, balanced=balanced, drawn=drawn, classes=classes)
    wish = Wish(classes, num, order, seed, batch_size, settings)
    if is_many:
        launcher.in_processes(processes, lambda: _write_many(making.load(source, device), out, wish))
        return
    pipeline = making.load(source, device)
    if inversion is not None:
        _write_inversion(pipeline, out, wish, inversion)
    elif interpolate is not None:
        _write_interpolation(pipeline, out, wish, interpolate)
    elif trajectory is not None:
        _write_trajectory(pipeline, out, wish, trajectory)
    else:
        _write_grid(pipeline, out, wish)


@dataclass(frozen=True)
class Wish:
    """Which images are wanted."""

    classes: str | None
    num: int | None
    order: str
    """Of the labels of many images: drawn, balanced or given."""
    seed: int
    batch_size: int
    settings: dict[str, Any]
    """Fields of the sampling section, checked."""


def _check_places(
    out: Path, num: int | None, trajectory: Path | None, inversion: Path | None, interpolate: str | None
) -> None:
    """Refuse what can't be read or written, or not together.

    Raises:
        ConfigError: naming the option.
    """
    from dit.errors import ConfigError
    from dit.files import check_writable

    single = out.suffix.lower() in FORMATS
    if not single and out.suffix and out.suffix.lower() != ".npz":
        known = f"{', '.join(FORMATS)} or .npz"
        raise ConfigError(f"--out: expected a file ending in {known}, or a folder, found {str(out)!r}")
    if trajectory is not None and trajectory.suffix.lower() not in (".gif", ".png"):
        raise ConfigError(f"--trajectory: expected a file ending in .gif or .png, found {str(trajectory)!r}")
    if not single and (trajectory, inversion, interpolate) != (None, None, None):
        raise ConfigError(f"--out: expected one picture ({', '.join(FORMATS)}) here, found {str(out)!r}")
    if sum(option is not None for option in (trajectory, inversion, interpolate)) > 1:
        raise ConfigError("--trajectory, --inversion, --interpolate: expected one of them, found several")
    if single and num is not None and num > MAX_TILES:
        raise ConfigError(
            f"--num: expected at most {MAX_TILES} in one picture, found {num}; --out takes a folder or .npz"
        )
    if inversion is not None and not inversion.is_file():
        raise ConfigError(f"--inversion: expected an image file, found none at {inversion}")
    check_writable(out, "--out")
    if trajectory is not None:
        check_writable(trajectory, "--trajectory")


def _write_grid(pipeline: "Pipeline", out: Path, wish: Wish) -> None:
    from dit.data.picture import image_grid

    size = wish.batch_size
    latents = pipeline.sample_latents(wish.classes, num=wish.num, seed=wish.seed, batch_size=size, **wish.settings)
    images = pipeline.decode(latents, batch_size=size)
    _write(image_grid(images, columns=_columns(len(images), len(pipeline.labels(wish.classes)))), out)


def _write_many(pipeline: "Pipeline", out: Path, wish: Wish) -> None:
    from dit.errors import Preempted
    from dit.zoo.pictures.many import sample_to_folder, sample_to_npz

    rank, num_processes = launcher.rank(), launcher.num_processes()
    write = sample_to_npz if out.suffix.lower() == ".npz" else sample_to_folder
    options = {"order": wish.order, "seed": wish.seed, "batch_size": wish.batch_size}
    wanted = many_images(pipeline, wish.settings, classes=wish.classes, num=wish.num, **options)
    try:
        made = write(pipeline, wanted, out, rank=rank, num_processes=num_processes)
    except KeyboardInterrupt:
        raise Preempted(f"{out}: stopped; what was made is kept, and the same command goes on") from None
    num = len(wanted.labels)
    print(f"{out}: made {made} of {num} images" + (f" in process {rank}" if num_processes > 1 else ""))


def _write_trajectory(pipeline: "Pipeline", out: Path, wish: Wish, path: Path) -> None:
    from dit.data.picture import image_grid
    from dit.files import write_bytes
    from dit.latents.preview import load_preview
    from dit.zoo.pictures.pictures import save_gif, trace, trajectory_frames, trajectory_strip

    labels, settings = pipeline.labels(wish.classes, wish.num), pipeline.settings(**wish.settings)
    if settings.preview_decoder is not None:
        pipeline.codec.preview = load_preview(settings.preview_decoder, pipeline.codec)
    trajectory = trace(pipeline, labels, settings, seed=wish.seed)
    columns = _columns(len(labels), len(labels))
    if path.suffix.lower() == ".gif":
        write_bytes(path, save_gif(trajectory_frames(pipeline, trajectory, columns=columns)))
        print(path)
    else:
        _write(trajectory_strip(pipeline, trajectory), path)
    _write(image_grid(pipeline.decode(trajectory.states[-1]), columns=columns), out)


def _write_interpolation(pipeline: "Pipeline", out: Path, wish: Wish, between: Literal["seeds", "classes"]) -> None:
    from dit.zoo.pictures.pictures import interpolate

    labels, settings = pipeline.labels(wish.classes, wish.num), pipeline.settings(**wish.settings)
    _write(interpolate(pipeline, labels, settings, between=between, seed=wish.seed), out)


def _write_inversion(pipeline: "Pipeline", out: Path, wish: Wish, image: Path) -> None:
    import torch

    from dit.data.config import DataConfig
    from dit.data.decode import decode_image
    from dit.errors import ConfigError
    from dit.sampling.solvers.step import create_solver
    from dit.zoo.pictures.pictures import invert_image

    labels = pipeline.labels(wish.classes)
    if wish.classes is None and pipeline.num_classes > 1:
        raise ConfigError("--classes: expected the class of the image, found none")
    if len(labels) > 1:
        raise ConfigError(f"--classes: expected the class of the image, found {len(labels)} classes")
    pixels = decode_image(
        image.read_bytes(),
        size=pipeline.image_size[0],
        channels=pipeline.codec.image_channels,
        max_pixels=DataConfig().max_pixels,
        name=str(image),
    )
    tensor = torch.tensor(pixels).permute(2, 0, 1)[None]  # (1, C, height, width)
    own = pipeline.config.sampling
    defaults: dict[str, Any] = {"solver": "heun", "guidance": 1.0}
    if create_solver(own.solver).is_invertible:
        defaults |= {"solver": own.solver.name, "steps": max(own.steps, INVERSION_STEPS)}
    sampling = pipeline.settings(**defaults | wish.settings)
    result = invert_image(pipeline, tensor, int(labels[0]), sampling, seed=wish.seed)
    _write(result.picture, out)
    print(f"there and back by {sampling.solver.name} in {sampling.steps} steps each, guidance {sampling.guidance:g}")
    print("from left to right: the image, decoded from its latent, its noise, made from that noise")
    print(f"reconstruction error: {result.latent_error:.4f} in latents of unit variance (root mean square)")
    print(f"                      {result.pixel_error:.2f} of 255 in pixels, against the codec's own reconstruction")
    print(f"deviation of the noise found: {result.noise_deviation:.3f} (1 for an image of the training distribution)")


def _write(picture: "Image.Image", out: Path) -> None:
    from dit.files import write_bytes

    buffer = io.BytesIO()
    picture.save(buffer, format=FORMATS[out.suffix.lower()])
    write_bytes(out, buffer.getvalue())
    print(out)


def _columns(num: int, num_classes: int) -> int:
    """Return columns so that each holds one class, where that is a sensible width."""
    return num_classes if 1 < num_classes <= 16 else min(num, math.ceil(math.sqrt(num)))

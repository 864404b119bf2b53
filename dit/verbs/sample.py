"""`dit sample`: pictures from a trained model."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dit import launcher
from dit.drawing import BATCH_SIZE, Drawn, Request, columns, draw
from dit.making import label_order, making_of, many_images

if TYPE_CHECKING:
    from dit.zoo.pipeline import Pipeline

SECTIONS = ("sampling",)
SHARED = (making_of,)
MAX_TILES = 4096
"""Most images in one picture."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def run(
    source: str,
    /,
    classes: str | None = None,
    num: int | None = None,
    only: int | None = None,
    balanced: bool = False,
    drawn: bool = False,
    adapter: Path | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    processes: int = 1,
    device: str | None = None,
    out: Path = Path("samples.png"),
    trajectory: Path | None = None,
    inversion: Path | None = None,
    interpolate: Literal["seeds", "classes"] | None = None,
    overrides: Mapping[str, Any] | None = None,
    **making_options: Any,
) -> None:
    """Draw images and write them as one picture, a folder of pictures or one .npz file.

    What is left out comes from the model's own sampling defaults, or with --published from the setting of its best
    published figure; `dit info SOURCE` shows both. Any other field of them can be set by --sampling.FIELD VALUE, such
    as --sampling.grid.last_step 0.04.

    Args:
        source: run folder, exported folder, .safetensors file of either, zoo name or Hub id.
        classes: ids or names separated by commas, used in turn; every class by default.
        num: number of images; one per class by default.
        only: of all these images write this one alone, counted from 0.
        balanced: in a folder or .npz: all classes in turn, and so equally often.
        drawn: in a folder or .npz: classes drawn at random, as by default unless --published says otherwise.
        adapter: file of `dit export --adapter`, or its folder: low-rank updates that are merged into the weights.
        seed: seed of the noise; an image depends on it and on its own position alone.
        batch_size: images at a time; it changes memory and speed, not the images but for rounding.
        processes: for a folder or .npz: number of processes on this machine, each on an accelerator of its own where
            there are several; the images are the same.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        out: picture (.png, .jpg, .webp): a grid where there are several; a .png holds its settings and the command that
            makes it again. Or a .npz file, as ADM's evaluator reads it (arr_0 uint8 images, arr_1 labels); or a folder
            of numbered .png files. Folders and .npz can be resumed by the same command, and made by several processes,
            by --processes or a launcher such as torchrun.
        trajectory: also write how the samples come about, as .gif or as .png strip.
        inversion: in place of sampling, take this image to its noise and back, and say how close it came; unless asked
            for otherwise without guidance, and by heun where the model's own solver can't go back.
        interpolate: in place of samples, draw what lies between two seeds or between neighbouring classes.
        overrides: dotted field of the sampling section -> value.
        making_options: see `dit.making.making_of`.
    """
    from dit.errors import ConfigError

    making = replace(making_of(overrides or {}, **making_options), adapter=adapter)
    _check_places(out, num, only, trajectory, inversion, interpolate)
    is_many = out.suffix.lower() not in FORMATS
    launcher.check_processes(processes)
    if processes > 1 and not is_many:
        raise ConfigError(f"--processes: expected 1 for one picture, found {processes}; --out takes a folder or .npz")
    own = making.locate(source).config  # answers a wrong source before torch is imported
    order = label_order(own.published if making.published else None, balanced=balanced, drawn=drawn, classes=classes)
    image = None if inversion is None else inversion.name
    with_strip = trajectory is not None
    request = Request(source, making, classes, num, only, seed, batch_size, with_strip, image, interpolate)
    if is_many:
        launcher.in_processes(processes, lambda: _write_many(making.load(source, device), out, request, order))
        return
    pipeline = making.load(source, device)
    if trajectory is not None:
        _write_trajectory(pipeline, out, request, trajectory)
    else:
        _write_picture(pipeline, out, request, inversion)


def _check_places(
    out: Path,
    num: int | None,
    only: int | None,
    trajectory: Path | None,
    inversion: Path | None,
    interpolate: str | None,
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
    if not single and (only, trajectory, inversion, interpolate) != (None, None, None, None):
        raise ConfigError(f"--out: expected one picture ({', '.join(FORMATS)}) here, found {str(out)!r}")
    if sum(option is not None for option in (trajectory, inversion, interpolate)) > 1:
        raise ConfigError("--trajectory, --inversion, --interpolate: expected one of them, found several")
    if only is not None and (inversion, interpolate) != (None, None):
        raise ConfigError("--only: expected it for samples, found it beside --inversion or --interpolate")
    if single and num is not None and num > MAX_TILES:
        raise ConfigError(
            f"--num: expected at most {MAX_TILES} in one picture, found {num}; --out takes a folder or .npz"
        )
    if inversion is not None and not inversion.is_file():
        raise ConfigError(f"--inversion: expected an image file, found none at {inversion}")
    check_writable(out, "--out")
    if trajectory is not None:
        check_writable(trajectory, "--trajectory")


def _write_many(pipeline: "Pipeline", out: Path, request: Request, order: str) -> None:
    from dit.errors import Preempted
    from dit.zoo.pictures.many import sample_to_folder, sample_to_npz

    rank, num_processes = launcher.rank(), launcher.num_processes()
    write = sample_to_npz if out.suffix.lower() == ".npz" else sample_to_folder
    options = {"order": order, "seed": request.seed, "batch_size": request.batch_size}
    wanted = many_images(pipeline, request.making.settings, classes=request.classes, num=request.num, **options)
    try:
        made = write(pipeline, wanted, out, rank=rank, num_processes=num_processes)
    except KeyboardInterrupt:
        raise Preempted(f"{out}: stopped; what was made is kept, and the same command goes on") from None
    num = len(wanted.labels)
    print(f"{out}: made {made} of {num} images" + (f" in process {rank}" if num_processes > 1 else ""))


def _write_picture(pipeline: "Pipeline", out: Path, request: Request, inversion: Path | None) -> None:
    drawn = draw(pipeline, request, image=None if inversion is None else inversion.read_bytes())
    _write(drawn, out)
    for line in drawn.words:
        print(line)


def _write_trajectory(pipeline: "Pipeline", out: Path, request: Request, path: Path) -> None:
    from dit.files import write_bytes
    from dit.zoo.pictures.pictures import save_gif, trajectory_frames

    drawn = draw(pipeline, request)
    trajectory = drawn.trajectory
    assert trajectory is not None
    if path.suffix.lower() == ".gif":
        across = columns(len(trajectory.labels), len(trajectory.labels))
        write_bytes(path, save_gif(trajectory_frames(pipeline, trajectory, columns=across)))
    else:
        write_bytes(path, drawn.png(strip=True))
    print(path)
    _write(drawn, out)


def _write(drawn: Drawn, out: Path) -> None:
    from dit.files import write_bytes

    buffer = io.BytesIO()
    if (kind := FORMATS[out.suffix.lower()]) == "PNG":
        buffer.write(drawn.png())
    else:
        drawn.picture.save(buffer, format=kind)
    write_bytes(out, buffer.getvalue())
    print(out)

"""`dit sample`: pictures from a trained model."""

import io
import math
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def run(
    source: Annotated[str, Positional, arg(metavar="SOURCE")],
    classes: str | None = None,
    num: int | None = None,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: str | None = None,
    out: Path = Path("samples.png"),
) -> None:
    """Draw images and write them as one picture, a grid where there are several.

    What is left out comes from the model's own sampling defaults; `dit info SOURCE` shows them.

    Args:
        source: run folder, exported folder, .safetensors file of either, zoo name or Hub id.
        classes: ids or names separated by commas, used in turn; every class by default.
        num: number of images; one per class by default.
        steps: solver steps, at least 1.
        solver: ddpm, ddim, euler or heun.
        guidance: scale of classifier-free guidance; 1 is off.
        seed: seed of the noise; an image depends on it and on its own position alone.
        batch_size: images at a time; it changes memory and speed, not the images.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
        out: picture file; .png, .jpg or .webp.
    """
    from dit.errors import ConfigError
    from dit.files import write_bytes
    from dit.zoo.source import locate

    settings = sampling_settings(steps=steps, solver=solver, guidance=guidance)
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out: expected a file ending in {', '.join(FORMATS)}, found {str(out)!r}")
    locate(source)  # answers a wrong source before torch is imported

    from dit.data.picture import image_grid
    from dit.verbs.device import choose_device
    from dit.zoo.pipeline import load_pipeline

    pipeline = load_pipeline(source, device=choose_device(device))
    latents = pipeline.sample_latents(classes, num=num, seed=seed, batch_size=batch_size, **settings)
    images = pipeline.decode(latents, batch_size=batch_size)
    buffer = io.BytesIO()
    image_grid(images, columns=_columns(len(images), len(pipeline.labels(classes)))).save(
        buffer, format=FORMATS[out.suffix.lower()]
    )
    write_bytes(out, buffer.getvalue())
    print(out)


def sampling_settings(**given: Any) -> dict[str, Any]:
    """Return the sampling options that were given, after checking each of them alone.

    Raises:
        ConfigError: naming the option, what was expected and what was found.
    """
    from dit.sampling.config import SamplingConfig
    from dit.validation import validate

    settings = {name: value for name, value in given.items() if value is not None}
    validate(SamplingConfig, settings, origin="dit sample", overridden=settings)
    return settings


def _columns(num: int, num_classes: int) -> int:
    """Return columns so that each holds one class, where that is a sensible width."""
    return num_classes if 1 < num_classes <= 16 else min(num, math.ceil(math.sqrt(num)))

"""`dit reference`: the statistics of real images that samples are measured against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

SECTIONS = ("data",)


def run(
    data: str,
    /,
    out: Path,
    image_size: int = 256,
    split: Literal["train", "val"] = "train",
    protocol: Literal["adm", "edm2", "dgm-eval", "torch-fidelity", "clean", "cmmd"] = "adm",
    images: int = 10_000,
    batch_size: int = 50,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Describe a data set by a protocol's networks, as a reference for dit evaluate.

    The file has the arrays of ADM's: mu and sigma of all images, of Inception also mu_s and sigma_s, and some of the
    images in arr_0, which precision, recall and the like compare samples with. It says how it was made. Any field of a
    recipe's section data can be set by --data.FIELD VALUE.

    Args:
        data: images, as data.source of a recipe: a folder, a Parquet file, a WebDataset tar, a Hub id, or mnist.
        out: .npz file to write.
        image_size: side of the square that is cut out of every image, in pixels.
        split: which images: those that are trained on, as published figures take them, or the held-out ones.
        protocol: whose networks and resizing.
        images: how many images to keep in the file, evenly spread; published references keep 10,000.
        batch_size: images at a time; it changes speed and memory.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
        overrides: `data.FIELD` -> value.
    """
    from dit.data.config import DataConfig
    from dit.errors import ConfigError
    from dit.files import check_writable
    from dit.validation import set_field, validate

    if out.suffix.lower() != ".npz":
        raise ConfigError(f"--out: expected an .npz file, found {out}")
    if images < 1 or batch_size < 1:
        raise ConfigError(f"--images, --batch_size: expected at least 1, found {images} and {batch_size}")
    fields: dict[str, Any] = {"source": data, "image_size": image_size}
    for key, value in (overrides or {}).items():
        set_field(fields, key.removeprefix("data."), value, section=DataConfig)
    config = validate(DataConfig, fields, origin="data", prefix="data.", overridden=overrides or ())
    check_writable(out, "--out")

    from dit.data.images import open_images
    from dit.device import choose_device
    from dit.evaluation.feature_parts import load_networks
    from dit.evaluation.protocols import PROTOCOLS
    from dit.evaluation.references.write import write_reference

    source = open_images(config, split, channels=3)
    if len(source) < 2:
        raise ConfigError(f"{data}: expected at least 2 images, found {len(source)} in split {split}")
    place = choose_device(device)
    write_reference(
        source,
        out,
        load_networks(PROTOCOLS[protocol].networks, place),
        num_kept=images,
        device=place,
        batch_size=batch_size,
        facts={"protocol": protocol, "data": Path(data).name if Path(data).exists() else data, "split": split},
    )
    print(out)

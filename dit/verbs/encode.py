"""`dit encode`: images to cached latents, ahead of a training."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit import launcher

if TYPE_CHECKING:
    from dit.data.config import DataConfig
    from dit.latents.config import LatentsConfig

SECTIONS = ("data", "latents")


def run(
    data: str,
    vae: str,
    out: Path,
    image_size: int = 256,
    flip: bool = False,
    processes: int = 1,
    limit: int | None = None,
    verify: bool = False,
    stats: bool = False,
    dry_run: bool = False,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Encode a data set's images once, so that trainings find their latents instead of waiting for them.

    The moments of the latents are kept, not one draw of them. A training finds them by --latents.cache OUT where its
    data, image size, flip and autoencoder are the same. The same command goes on where it was stopped, also in several
    processes, by --processes or a launcher such as torchrun: they share the work, and the files are the same.
    Other fields of a recipe's sections data and latents can be set by --data.FIELD VALUE and --latents.FIELD VALUE.

    Args:
        data: images, as data.source of a recipe: mnist, a folder, a Parquet file, a WebDataset tar or a Hub id.
        vae: autoencoder, as latents.vae of a recipe: mnist, a folder or a Hub id; pixels or pixels_grey for none.
        out: folder of the cache, as latents.cache of a recipe.
        image_size: side of the square that is cut out of every image, in pixels.
        flip: also encode the mirror images, for recipes with data.flip.
        processes: number of processes on this machine, each on an accelerator of its own where there are several.
        limit: most images of each split, spread evenly over it, for a trial; data.limit of a recipe.
        verify: also compare all latents with their hashes.
        stats: also measure mean and deviation of each latent channel, for recipes with latents.normalise: measured.
        dry_run: only say what the latents take on the disk, and the time for the rest from a first hundred images.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        overrides: `data.FIELD` or `latents.FIELD` -> value.
    """
    from dit.data.config import DataConfig
    from dit.latents.config import LatentsConfig, check_encoding
    from dit.validation import validate

    values = {
        "data": {"source": data, "image_size": image_size, "flip": flip, "limit": limit},
        "latents": {"vae": vae, "cache": str(out), "normalise": "measured" if stats else "own"},
    }
    for key, value in (overrides or {}).items():
        section, _, field = key.partition(".")
        values[section][field] = value
    data_config = validate(DataConfig, values["data"], origin="data", overridden=values["data"])
    latents_config = validate(LatentsConfig, values["latents"], origin="latents", overridden=values["latents"])

    check_encoding(data_config, "ahead")
    launcher.check_processes(processes)
    if dry_run:
        _print_plan(data_config, latents_config, device, processes)
        return
    encode = partial(_encode, data_config, latents_config, device, verify=verify, stats=stats)
    launcher.in_processes(processes, encode)


def _encode(data: "DataConfig", latents: "LatentsConfig", device: str | None, *, verify: bool, stats: bool) -> None:
    from dit.data.imagenet import imagenet_classes, is_imagenet
    from dit.device import choose_device
    from dit.latents.codec import load_codec
    from dit.latents.encode import encode_dataset
    from dit.latents.statistics import write_statistics

    codec = load_codec(latents, choose_device(device))
    for split in ("train", "val"):
        encoded = encode_dataset(data, latents, codec, split)
        if not launcher.is_main():
            continue
        if verify:
            encoded.verify()
        classes = f"{encoded.num_classes} classes"
        if encoded.num_classes == len(imagenet_classes()):
            order = "ImageNet's" if is_imagenet(encoded.class_names) else "not ImageNet's"
            classes += f", {order} in its order"
        print(f"{split:<5}  {len(encoded):,} images, {classes}  {encoded.folder}")
        if stats and split == "train":
            statistics = write_statistics(encoded)
            for name, values in (("mean", statistics.mean), ("std", statistics.std)):
                print(f"{name:<5}  {', '.join(f'{value:g}' for value in values)}")


def _print_plan(data: "DataConfig", latents: "LatentsConfig", device: str | None, processes: int) -> None:
    if processes > 1:
        launcher.share_cores(processes)

    from dit.device import choose_device
    from dit.display import in_bytes, time_left
    from dit.latents.codec import load_codec
    from dit.latents.plan import make_plan
    from dit.latents.trial import measure

    codec = load_codec(latents, choose_device(device))
    for split in ("train", "val"):
        plan = make_plan(data, latents, codec, split)
        trial = measure(plan)
        size = in_bytes(len(plan.images) * plan.image_bytes)
        line = f"{split:<5}  {len(plan.images):,} images, {size}, {trial.num_done:,} done"
        if trial.images_per_second:
            left = (len(plan.images) - trial.num_done) / (trial.images_per_second * processes)
            line += f"; {trial.images_per_second * processes:,.3g} images/s, {time_left(left)} left"
        print(f"{line}  {plan.target}")

"""`dit encode`: images to cached latents, ahead of a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit import launcher

if TYPE_CHECKING:
    from dit.data.config import DataConfig
    from dit.latents.codec import Codec
    from dit.latents.config import LatentsConfig
    from dit.latents.features import FeatureEncoder

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
    features: str | None = None,
    features_grid: int | None = None,
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
        features: also encode the training images by this frozen encoder, timm/MODEL or a folder or Hub id of a DINOv2
            with registers, for recipes with alignment and its field features: OUT.
        features_grid: tokens in a row of the network that will be trained, to which the encoder's patches are matched;
            half a latent's side, as of networks with patches of 2, by default.
        dry_run: only say what the latents take on the disk, and the time for the rest from a first hundred images.
        device: such as cpu, cuda or cuda:1; the process's accelerator, else the CPU, by default.
        overrides: `data.FIELD` or `latents.FIELD` -> value.
    """
    from dit.data.config import DataConfig
    from dit.errors import ConfigError
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
    if features_grid is not None and (features is None or features_grid < 1):
        raise ConfigError(f"--features_grid: expected a number above 0 beside --features, found {features_grid}")
    wanted = Features(features, out, features_grid) if features else None
    if dry_run:
        _print_plan(data_config, latents_config, wanted, device, processes)
        return
    encode = partial(_encode, data_config, latents_config, wanted, device, verify=verify, stats=stats)
    launcher.in_processes(processes, encode)


@dataclass(frozen=True)
class Features:
    """Which features are encoded too."""

    encoder: str
    """Name of the encoder."""
    folder: Path
    """Of the latents' caches, beside which they go."""
    side: int | None
    """Patches in a row; None: half a latent's side."""

    def parts(
        self, data: "DataConfig", latents: "LatentsConfig", codec: "Codec"
    ) -> tuple["LatentsConfig", "FeatureEncoder"]:
        """Return the section and the encoder that stand for the autoencoder's."""
        from dit.latents.features import FeatureEncoder, features_config

        side = self.side or max(1, codec.latent_size(data.image_size)[0] // 2)
        encoder = FeatureEncoder(self.encoder, side, image_channels=codec.image_channels, device=codec.device)
        return features_config(latents, self.encoder, self.folder), encoder


def _encode(
    data: "DataConfig",
    latents: "LatentsConfig",
    features: Features | None,
    device: str | None,
    *,
    verify: bool,
    stats: bool,
) -> None:
    from dit.data.imagenet import imagenet_classes, is_imagenet
    from dit.device import choose_device
    from dit.latents.codec import load_codec
    from dit.latents.encode import encode_dataset
    from dit.latents.statistics import write_statistics

    codec = load_codec(latents, choose_device(device))
    feature_parts = features and features.parts(data, latents, codec)  # a wrong encoder is refused before the work
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
    if features and feature_parts:
        encoded = encode_dataset(data, *feature_parts, "train")
        if launcher.is_main():
            if verify:
                encoded.verify()
            size = "x".join(map(str, encoded.moments_shape))
            print(f"train  features of {len(encoded):,} images, {size}, {features.encoder}  {encoded.folder}")


def _print_plan(
    data: "DataConfig", latents: "LatentsConfig", features: Features | None, device: str | None, processes: int
) -> None:
    if processes > 1:
        launcher.share_cores(processes)

    from dit.device import choose_device
    from dit.display import in_bytes, time_left
    from dit.latents.codec import load_codec
    from dit.latents.plan import make_plan
    from dit.latents.trial import measure

    codec = load_codec(latents, choose_device(device))
    plans = [make_plan(data, latents, codec, split) for split in ("train", "val")]
    if features is not None:
        plans.append(make_plan(data, *features.parts(data, latents, codec), "train"))
    for plan in plans:
        trial = measure(plan)
        size = in_bytes(len(plan.images) * plan.image_bytes)
        line = f"{plan.split:<5}  {len(plan.images):,} images, {size}, {trial.num_done:,} done"
        if trial.images_per_second:
            left = (len(plan.images) - trial.num_done) / (trial.images_per_second * processes)
            line += f"; {trial.images_per_second * processes:,.3g} images/s, {time_left(left)} left"
        print(f"{line}  {plan.target}")

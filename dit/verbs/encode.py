"""`dit encode`: images to cached latents, ahead of a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECTIONS = ("data", "latents")


def run(
    data: str,
    vae: str,
    out: Path,
    image_size: int = 256,
    flip: bool = False,
    stats: bool = False,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Encode a data set's images once, so that trainings find their latents instead of waiting for them.

    The moments of the latents are kept, not one draw of them. A training finds them by --latents.cache OUT where its
    data, image size, flip and autoencoder are the same. Latents that are there already are compared with their hashes.
    Other fields of a recipe's sections data and latents can be set by --data.FIELD VALUE and --latents.FIELD VALUE.

    Args:
        data: images, as data.source of a recipe: mnist, a folder, a Parquet file, a WebDataset tar or a Hub id.
        vae: autoencoder, as latents.vae of a recipe: mnist, a folder or a Hub id; pixels or pixels_grey for none.
        out: folder of the cache, as latents.cache of a recipe.
        image_size: side of the square that is cut out of every image, in pixels.
        flip: also encode the mirror images, for recipes with data.flip.
        stats: also measure mean and deviation of each latent channel, for recipes with latents.normalise: measured.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
        overrides: `data.FIELD` or `latents.FIELD` -> value.
    """
    from dit.data.config import DataConfig
    from dit.latents.config import LatentsConfig
    from dit.validation import validate

    values = {
        "data": {"source": data, "image_size": image_size, "flip": flip},
        "latents": {"vae": vae, "cache": str(out), "normalise": "measured" if stats else "own"},
    }
    for key, value in (overrides or {}).items():
        section, _, field = key.partition(".")
        values[section][field] = value
    data_config = validate(DataConfig, values["data"], origin="data", overridden=values["data"])
    latents_config = validate(LatentsConfig, values["latents"], origin="latents", overridden=values["latents"])

    from dit.device import choose_device
    from dit.latents.codec import load_codec
    from dit.latents.encode import encode_dataset
    from dit.latents.statistics import write_statistics

    codec = load_codec(latents_config, choose_device(device))
    for split in ("train", "val"):
        encoded = encode_dataset(data_config, latents_config, codec, split)
        encoded.verify()
        print(f"{split:<5}  {len(encoded):,} images, {encoded.num_classes} classes  {encoded.folder}")
        if stats and split == "train":
            statistics = write_statistics(encoded)
            for name, values in (("mean", statistics.mean), ("std", statistics.std)):
                print(f"{name:<5}  {', '.join(f'{value:g}' for value in values)}")

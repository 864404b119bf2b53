"""`dit encode`: images to cached latents, ahead of a training."""

from pathlib import Path


def run(
    data: str,
    vae: str,
    out: Path,
    image_size: int = 256,
    batch_size: int | None = None,
    storage: str | None = None,
    on_error: str | None = None,
    device: str | None = None,
) -> None:
    """Encode a data set's images once, so that trainings find their latents instead of waiting for them.

    The moments of the latents are kept, not one draw of them. A training finds them by --latents.cache OUT when its
    data, image size and autoencoder are the same.

    Args:
        data: images, as data.source of a recipe: mnist, a folder, a Parquet file, a WebDataset tar or a Hub id.
        vae: autoencoder, as latents.vae of a recipe: mnist, a folder or a Hub id.
        out: folder of the cache, as latents.cache of a recipe.
        image_size: side of the square that is cut out of every image, in pixels.
        batch_size: images that are encoded at a time.
        storage: precision of the cached moments, float32 or float16.
        on_error: what a broken image does, stop or skip.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
    """
    from dit.data.config import DataConfig
    from dit.latents.config import LatentsConfig
    from dit.validation import validate

    options = {"batch_size": batch_size, "storage": storage, "on_error": on_error}
    given = {name: value for name, value in options.items() if value is not None}
    data_values = {"source": data, "image_size": image_size} | {k: v for k, v in given.items() if k == "on_error"}
    latents_values = {"vae": vae, "cache": str(out)} | {k: v for k, v in given.items() if k != "on_error"}
    data_config = validate(DataConfig, data_values, origin="dit encode", overridden=data_values)
    latents_config = validate(LatentsConfig, latents_values, origin="dit encode", overridden=latents_values)

    from dit.latents.codec import load_codec
    from dit.latents.encode import encode_dataset
    from dit.verbs.device import choose_device

    codec = load_codec(latents_config, choose_device(device))
    for split in ("train", "val"):
        encoded = encode_dataset(data_config, latents_config, codec, split)
        print(f"{split:<5}  {len(encoded):,} images, {encoded.num_classes} classes  {encoded.folder}")

"""`dit convert`: a model from one layout to another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

SECTIONS = ("model",)


def run(
    source: str,
    target: Path,
    /,
    to: Literal["native", "original", "diffusers"] = "native",
    weights: Literal["ema", "raw", "vae"] = "ema",
    process: str | None = None,
    vae: str | None = None,
    stats: Path | None = None,
    encoder: str | None = None,
    max_shard_size: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Read a model of any layout and write it in another: native folder, original keys, or a folder for diffusers.

    What a file is is told from its content. Only here may a source be a .pt file, which is read without running
    anything that it holds. A file with an autoencoder of latent diffusion (VA-VAE, REPA-E) or with the decoder of a
    representation autoencoder becomes a folder for --vae.

    Args:
        source: zoo name, folder, file or Hub id: exported, run, for diffusers, or what a family's authors publish.
        target: new or empty folder; with --to original a new file ending in .safetensors or .pt.
        to: layout to write; diffusers: what DiTPipeline loads, or where that can't hold the model, a folder with code
            of its own, which diffusers runs with trust_remote_code=True.
        weights: which weights of a training checkpoint: the average, the raw ones, or the autoencoder's trained along.
        process: process that the network was trained for, where the content does not tell; of a DiT's names gaussian
            (by default) or flow (a SiT).
        vae: autoencoder: mnist, a folder or a Hub id.
        stats: of an autoencoder's file, the file with the mean and deviation of its latents.
        encoder: of a representation autoencoder's decoder, the encoder: a folder or a Hub id; DINOv2's by default.
        max_shard_size: largest weight file of a folder, such as 5GB.
        overrides: dotted argument of the network that the content does not tell -> value, such as model.num_heads.
    """
    from dit.display import say
    from dit.zoo.convert import convert
    from dit.zoo.layouts.original import ReadOptions

    model = {name.removeprefix("model."): value for name, value in (overrides or {}).items()}
    options = ReadOptions(weights=weights, process=process, model=model, vae=vae, stats=stats, encoder=encoder)
    for notice in convert(source, target, to=to, options=options, max_shard_size=max_shard_size):
        say(notice)
    print(target)

"""`dit convert`: a model from one layout to another."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def run(
    source: Annotated[str, Positional, arg(metavar="SOURCE")],
    target: Annotated[Path, Positional, arg(metavar="TARGET")],
    to: Literal["native", "original", "diffusers"] = "native",
    weights: Literal["ema", "raw"] = "ema",
    process: Literal["gaussian", "flow"] | None = None,
    num_heads: int | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    vae: str | None = None,
    max_shard_size: str | None = None,
) -> None:
    """Read a model of any layout and write it in another: native folder, original keys, or diffusers' DiTPipeline.

    What a file is is told from its content. Only here may a source be a .pt file, which is read without running
    anything that it holds.

    Args:
        source: zoo name, folder, file or Hub id: exported, run, original DiT or SiT, training checkpoint, diffusers.
        target: new or empty folder; with --to original a new file ending in .safetensors or .pt.
        to: layout to write.
        weights: which weights of a training checkpoint: the average or the raw ones.
        process: process that the network was trained for, where the content does not tell.
        num_heads: attention heads, off the standard variants.
        num_classes: classes, where the label table has no row for the null class.
        input_size: height and width of the latent, where they differ.
        vae: autoencoder: mnist, a folder or a Hub id.
        max_shard_size: largest weight file of a folder, such as 5GB.
    """
    from dit.display import say
    from dit.zoo.convert import convert
    from dit.zoo.layouts.original import ReadOptions

    options = ReadOptions(
        weights=weights, process=process, num_heads=num_heads, num_classes=num_classes, input_size=input_size, vae=vae
    )
    for notice in convert(source, target, to=to, options=options, max_shard_size=max_shard_size):
        say(notice)
    print(target)

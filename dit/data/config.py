"""Recipe section `data`: where the images come from and how each becomes a square of pixels."""

from typing import Literal

from pydantic import AliasChoices, Field

from dit.schema import Section


class DataConfig(Section):
    """Source of the images, their size, labels, split, and what happens to a bad one."""

    source: str = "mnist"
    """"mnist" (the digits of the extra dit-zoo[mnist]) or another registered name (`name:argument`), a folder of images
    with one sub-folder per class, a Parquet file, a WebDataset tar, a folder of these, or a Hub id
    `org/name[@revision]`. Or latents that latents.vae made: what `dit encode` wrote, here or at an address (hf://,
    s3://), or those of fast-DiT, LightningDiT, REPA, EDM2 or MaskDiT. Classes are numbered from 0 by sorted name where
    the source does not declare an order."""
    subset: str | None = None
    """Configuration of a Hub data set that has several."""
    image_size: int = Field(default=256, ge=8, le=8192)
    """Side of the square in pixels: the shorter side is scaled to it and a square is cut out."""
    crop: Literal["centre", "random"] = "centre"
    """Where training images are cut out: in the centre, or at a random place each time (latents.encode
    while_training)."""
    flip: bool = False
    """Mirror images left to right at random while training."""
    shuffle: Literal["full", "shards"] = "full"
    """Order of training: full, over all images; shards, for latents on spinning disks, network storage or the Hub: over
    `shuffle_window` of their files at a time, which are exchanged one by one."""
    shuffle_window: int = Field(default=64, ge=1, le=65536)
    """Files of latents that shuffle: shards mixes. They are often sorted by class: too few, and batches have too few
    classes."""
    image_column: str | None = None
    """Column that holds the images; null: the only column of images."""
    label_column: str | None = "label"
    """Column that holds the classes (names, or numbers from 0); null: no labels, for an unconditional model. A field of
    a column is `json.label`, or `label` where no other has it; of a WebDataset `label` is also the .cls file."""
    train_split: str = "train"
    """Split that is trained on."""
    val_split: str | None = None
    """Held-out split; null: `validation`, `val`, `valid`, `dev` or `test` if there is one, else part of train_split."""
    val_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of every class that is held out of train_split where the source has no held-out split (mnist has one)."""
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed that decides which images are held out."""
    limit: int | None = Field(default=None, ge=1)
    """Most images of each split, spread evenly over it, for a trial; null: all."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a broken image or label does: stop, or be skipped, counted and listed in the cache's index.json."""
    max_skipped: float = Field(default=0.01, ge=0, le=1)
    """Largest share of images that on_error: skip may skip before it stops after all."""
    max_pixels: int = Field(default=89_478_485, ge=64, le=2**32)
    """Images that declare more pixels than this are refused before they are decoded."""
    num_workers: int = Field(default=4, ge=0, le=256, validation_alias=AliasChoices("num_workers", "num_threads"))
    """Processes that read and decode images ahead, for each process that encodes; 0: it reads them itself."""

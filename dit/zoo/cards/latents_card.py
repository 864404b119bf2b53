"""The card of published latents: what they are of, how they are stored, and the command that trains on them.

The text is `model_cards/latents.md`.
"""

import shlex
from collections.abc import Mapping

import jinja2

from dit.display import in_bytes
from dit.hub_ids import HubId
from dit.latents.shards import Index
from dit.zoo.cards.card import DATASETS_ON_THE_HUB, as_text, cards_folder

EMBEDDED = ("mnist", "pixels", "pixels_grey")
"""Autoencoders that need no download."""


def render_latents_card(indices: Mapping[str, Index], repository: str, *, license: str) -> str:  # noqa: A002
    """Render the card of latents.

    Args:
        indices: split -> what its cache holds, without paths of this machine.
        repository: org/name on the Hub.
        license: by the Hub's identifier, also "unknown".
    """
    from huggingface_hub import DatasetCardData

    train = indices["train"]
    num_images = {split: sum(part.num_samples for part in index.parts) for split, index in indices.items()}
    name = repository.partition("/")[2]
    metadata = DatasetCardData(
        license=license,
        pretty_name=name,
        size_categories=_size_category(sum(num_images.values())),
        task_categories=["unconditional-image-generation"],
        tags=["dit", "latents", "diffusion"],
    ).to_yaml()
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"cell": as_text, "shell": shlex.quote, "bytes": in_bytes}
    return environment.from_string((cards_folder() / "latents.md").read_text(encoding="utf-8")).render(
        metadata=metadata,
        name=name,
        address=f"{DATASETS_ON_THE_HUB}{repository}",
        license=license,
        source=train.source.rpartition(" (")[0] or train.source,
        index=train,
        num_images=num_images,
        num_bytes=sum(part.num_bytes for index in indices.values() for part in index.parts),
        is_gaussian=train.num_moments == 2 * train.latents_shape[0],
        can_be_had=train.vae in EMBEDDED or HubId.parse(train.vae) is not None,
        num_skipped=sum(len(index.skipped) for index in indices.values()),
    )


def _size_category(num: int) -> str:
    """Return the Hub's word for a number of samples."""
    words = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B"]
    return words[min(max(len(str(num)) - 3, 0), len(words) - 1)]

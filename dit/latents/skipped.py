"""What `data.on_error: skip` allows: images may be left out, counted and listed, up to `data.max_skipped`."""

from collections.abc import Sequence

from dit.data.config import DataConfig
from dit.display import warn
from dit.errors import DitError
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME
from dit.launcher import is_main


def check_skipped(skipped: Sequence[str], total: int, data: DataConfig) -> None:
    """Refuse more bad images than are allowed.

    Raises:
        DitError: with both shares and the last message.
    """
    if len(skipped) > data.max_skipped * total:
        raise DitError(
            f"data.max_skipped: expected at most {data.max_skipped:.2%} bad images, found {len(skipped)} of "
            f"{total}; the last: {skipped[-1]}"
        )


def apply_policy(dataset: LatentDataset, data: DataConfig) -> None:
    """Hold a finished cache to this recipe's policy: it may have been made under one that allows more.

    Raises:
        DitError: it leaves out images, and `data.on_error` is `stop` or they are too many.
    """
    skipped, index = dataset.index.skipped, dataset.folder / INDEX_NAME
    if not skipped:
        return
    if data.on_error == "stop":
        raise DitError(f"{skipped[0]} ({len(skipped)} bad images in all, listed in {index})")
    check_skipped(skipped, len(dataset) + len(skipped), data)
    if is_main():
        warn(f"skipped {len(skipped)} images, listed in {index}")

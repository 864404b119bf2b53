"""From a folder of latents to a data set on the Hub: compared with its hashes, described, and in one commit.

What is published are the caches of both splits as they are: index.json, the parts and measured statistics. Paths of
this machine in index.json are cut to their last part.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dit.data.config import DataConfig
from dit.errors import DitError, did_you_mean
from dit.latents.config import LatentsConfig
from dit.latents.dataset import LatentDataset
from dit.latents.shards import INDEX_NAME, STATISTICS_NAME, Index
from dit.latents.stored import cache_names, open_stored
from dit.zoo.cards.card import CARD_NAME
from dit.zoo.cards.latents_card import render_latents_card
from dit.zoo.hub.push import LICENSES, Pushed, check_client, commit, is_local, refuse_secrets, relative_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

UNKNOWN = "unknown"


def is_latents(folder: str | Path) -> bool:
    """Tell whether a folder holds latents that `dit encode` wrote."""
    folder = Path(folder)
    if not folder.is_dir():
        return False
    return (folder / INDEX_NAME).is_file() or bool(cache_names((path.name for path in folder.iterdir()), "train"))


def push_latents(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    license: str | None = None,  # noqa: A002 - the Hub's word for it
    api: "HfApi | None" = None,
) -> Pushed:
    """Publish latents as a data set: `folder` is what `dit encode --out` named, or the cache of one split.

    The options are those of `push`, but for `license`: that of the latents, by the Hub's identifier; by default the
    card says that it is unknown.

    Raises:
        ConfigError: `repository` is not an id of the Hub, or there are several caches of a split.
        DitError: a part is damaged, the license is not one of the Hub's, or the Hub refuses.
    """
    folder, api = Path(folder), check_client(repository, api, dry_run=dry_run)
    if license is not None and license not in LICENSES:
        hint = did_you_mean(license, LICENSES)
        raise DitError(f"--license: expected an identifier of the Hub, found {license!r}.{hint}")
    texts: dict[str, bytes] = {}
    parts: dict[str, Path] = {}
    indices, cut = {}, set()
    for split, dataset in _caches(folder).items():
        dataset.verify()
        prefix = "" if dataset.folder == folder else f"{dataset.folder.name}/"
        indices[split] = index = _without_paths(dataset.index)
        cut |= {text for text in (_source(dataset.index), dataset.index.vae) if is_local(text)}
        content = json.dumps(index.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
        texts[f"{prefix}{INDEX_NAME}"] = content.encode()
        if (dataset.folder / STATISTICS_NAME).is_file():
            texts[f"{prefix}{STATISTICS_NAME}"] = (dataset.folder / STATISTICS_NAME).read_bytes()
        parts |= {f"{prefix}{entry.file}": dataset.folder / entry.file for entry in index.parts}
    card = render_latents_card(indices, repository, license=license or UNKNOWN)
    texts[CARD_NAME] = card.encode()
    refuse_secrets(texts)
    files = {path: len(text) for path, text in texts.items()} | {
        path: file.stat().st_size for path, file in parts.items()
    }
    left_out = sorted(path for path in set(relative_files(folder)) - set(files) if not Path(path).name.startswith("."))
    pushed = Pushed(files, left_out, card, sorted(cut))
    if dry_run:
        return pushed
    num_images = sum(entry.num_samples for index in indices.values() for entry in index.parts)
    address = commit(
        api,
        texts | parts,
        repository,
        message=f"Publish latents of {num_images:,} images, {sum(files.values()) / 1e6:.1f} MB",
        repo_type="dataset",
        private=private,
        revision=revision,
        tag=tag,
        create_pr=create_pr,
    )
    return replace(pushed, address=address)


def _caches(folder: Path) -> dict[str, LatentDataset]:
    """Return the cache of each split that there is."""
    stored = open_stored(DataConfig(source=str(folder)), LatentsConfig())
    assert stored is not None, folder
    caches = {"train": stored.train}
    return caches if stored.val.folder == stored.train.folder else caches | {"val": stored.val}


def _without_paths(index: Index) -> Index:
    """Cut paths of this machine to their last part."""
    split = index.source.removeprefix(_source(index))
    return index.model_copy(
        update={
            "source": _last_part(_source(index)) + split,
            "vae": _last_part(index.vae),
            "skipped": tuple(_without_path(message) for message in index.skipped),
        }
    )


def _source(index: Index) -> str:
    """Return the data source alone, without the split that is named after it."""
    return index.source.rpartition(" (")[0] or index.source


def _without_path(message: str) -> str:
    place, colon, problem = message.partition(": ")
    return _last_part(place) + colon + problem


def _last_part(text: str) -> str:
    return Path(text).name if is_local(text) else text

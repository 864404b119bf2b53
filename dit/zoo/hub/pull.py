"""From a zoo name or a Hub id to an exported folder on this machine.

A revision is resolved once, and that commit is used for every file. Only safetensors are taken from a repository; the
`.pt` files of zoo entries go through the converter, which opens them safely. Converted models are kept below
DIT_CACHE, or ~/.cache/dit, in `zoo/`.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dit.errors import ConfigError, DitError
from dit.files import ASSETS, cache_folder, new_folder, sha256
from dit.hub_files import download
from dit.hub_ids import HubId
from dit.run_files import METRICS_NAME, RECIPE_NAME
from dit.zoo.cards.card import write_card
from dit.zoo.entries import Entry, entries, entry_facts
from dit.zoo.folder.config import is_exported, read_config
from dit.zoo.folder.safetensors_file import read_header, weight_files
from dit.zoo.hub.download import check_hash, download_address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED = (
    "config.json", "model*.safetensors", "model.safetensors.index.json",
    "model_index.json", "dit_config.json", "scheduler/scheduler_config.json",
    "transformer/config.json", "transformer/*.safetensors", "transformer/*.safetensors.index.json",
    "vae/config.json", "vae/*.safetensors", "vae/*.safetensors.index.json",
)  # fmt: skip
"""What a pipeline is loaded from, in both layouts."""
EXTRAS = ("README.md", RECIPE_NAME, METRICS_NAME, "eval.json", "*.png")


def pull(
    source: str,
    folder: str | Path | None = None,
    *,
    revision: str | None = None,
    layout: str | None = None,
    api: "HfApi | None" = None,
) -> Path:
    """Bring a model to this machine, whole, as an exported folder.

    Args:
        source: zoo name, or Hub id `org/name[@revision]`.
        folder: new or empty folder to write; by default it stays in the cache.
        revision: branch, tag or commit of a Hub id.
        layout: of a zoo entry with several sources, which.
        api: client of the Hub; that of the environment by default.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no such name, or `folder` is not empty.
        DitError: it can't be had; the reason is given.
    """
    if folder is not None and Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise ConfigError(f"{folder}: expected a new or empty folder, found files there; choose another")
    found = fetch(source, revision=revision, layout=layout, api=api, with_extras=True)
    if folder is None:
        return found
    with new_folder(folder) as target:
        shutil.copytree(found, target, dirs_exist_ok=True)
    return Path(folder)


def fetch(
    source: str,
    *,
    revision: str | None = None,
    layout: str | None = None,
    api: "HfApi | None" = None,
    with_extras: bool = False,
) -> Path:
    """Return an exported folder of a zoo name or Hub id, downloading and converting what is not in the caches.

    Raises:
        ConfigError: it is neither.
        DitError: it can't be had; the reason is given.
    """
    if source in entries():
        return _fetch_entry(source, entries()[source], layout, api)
    hub_id = HubId.parse(source, revision)
    if hub_id is None:
        raise ConfigError(f"{source}: expected a zoo name or a Hub id org/name[@revision]")
    snapshot, commit = download(hub_id, [*NEEDED, *(EXTRAS if with_extras else ())], api=api)
    if is_exported(snapshot):
        _check(hub_id.repository, snapshot)
        return snapshot
    key = f"{hub_id.repository.replace('/', '--')}@{commit[:12]}"
    return _converted(key, snapshot, {"repository": hub_id.repository, "commit": commit})


def _check(repository: str, snapshot: Path) -> None:
    """Refuse a repository whose description or weight files are not what they are called."""
    try:
        read_config(snapshot)
        for path in weight_files(snapshot):
            read_header(path)
    except DitError as error:
        raise DitError(f"{repository}: {error}") from None


def _fetch_entry(name: str, entry: Entry, layout: str | None, api: "HfApi | None") -> Path:
    source = entry.source(layout)
    if source is None:
        known = ", ".join(place.layout for place in entry.sources)
        raise ConfigError(f"{name}: expected a layout it has a source in ({known}), found {layout!r}")
    if source.embedded:
        return ASSETS / name
    facts = entry_facts(name, source)
    if source.address:
        if is_exported(cache_folder("zoo") / name):
            return cache_folder("zoo") / name
        file = download_address(source, cache_folder("zoo") / "downloads")
        folder = _converted(name, file, facts | {"sha256": sha256(file)})
        file.unlink()
        return folder
    if source.repository is None:
        raise DitError(f"{name}: its weights have to be fetched by hand: {source.describe()}")
    hub_id = HubId(source.repository, source.revision)
    wanted = NEEDED if source.file is None else [source.file]
    snapshot, commit = download(hub_id, wanted, api=api, may_be_pickle=source.file is not None)
    found = snapshot if source.file is None else snapshot / source.file
    if source.sha256 is not None:
        check_hash(found, source.sha256)
    return _converted(f"{name}@{commit[:12]}", found, facts | {"commit": commit})


def _converted(key: str, source: Path, facts: dict[str, Any]) -> Path:
    """Return the exported folder that a downloaded model converts to; made where it is not there yet."""
    folder = cache_folder("zoo") / key
    if is_exported(folder):
        return folder
    from dit.zoo.layouts.entry import read_entry
    from dit.zoo.layouts.native import write_native
    from dit.zoo.layouts.original import ReadOptions
    from dit.zoo.layouts.read import read_foreign

    with TemporaryDirectory() as scratch:
        of_entry = facts.get("name") in entries()
        model = read_entry(facts["name"], source, Path(scratch)) if of_entry else read_foreign(source, ReadOptions())
        model.config = model.config.model_copy(update={"provenance": model.config.provenance.updated(**facts)})
        with new_folder(folder) as target:
            write_native(model, target)
            write_card(target, source=facts.get("name") or facts.get("repository"))
    return folder

"""From a zoo name or a Hub id to an exported folder on this machine.

A revision is resolved once, and that commit is used for every file. Only safetensors are taken from a repository; the
`.pt` files of zoo entries go through the converter, which opens them safely. Converted models are kept below
DIT_CACHE, or ~/.cache/dit, in `zoo/`.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dit.display import say, warn
from dit.errors import ConfigError, DitError
from dit.files import ASSETS, cache_folder, new_folder, sha256
from dit.hub_files import download
from dit.hub_ids import HubId
from dit.run_files import METRICS_NAME, RECIPE_NAME
from dit.zoo.cards.card import write_card
from dit.zoo.entries import SourceEntry, entries, entry_facts
from dit.zoo.folder.adapter import own_files
from dit.zoo.folder.config import is_exported, read_config
from dit.zoo.folder.safetensors_file import read_header
from dit.zoo.hub.download import check_hash, download_address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED = (
    "config.json", "adapter.safetensors", "model*.safetensors", "model.safetensors.index.json",
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
    file: Path | None = None,
    api: "HfApi | None" = None,
) -> Path:
    """Bring a model to this machine, whole, as an exported folder.

    Args:
        source: zoo name, or Hub id `org/name[@revision]`.
        folder: new or empty folder to write; by default it stays in the cache.
        revision: branch, tag or commit of a Hub id.
        layout: of a zoo entry with several sources, which.
        file: weights of a zoo entry that were fetched by hand.
        api: client of the Hub; that of the environment by default.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no such name or file, or `folder` is not empty.
        DitError: it can't be had; the reason is given.
    """
    if folder is not None and Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise ConfigError(f"{folder}: expected a new or empty folder, found files there; choose another")
    if file is None:
        found = fetch(source, revision=revision, layout=layout, api=api, with_extras=True)
    else:
        found = take(source, file, layout)
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
        ConfigError: it is neither, or is given what only the other takes.
        DitError: it can't be had; the reason is given.
    """
    if source in entries():
        if revision is not None:
            raise ConfigError(f"revision: expected it left out, for the zoo says the one of {source}, found {revision}")
        folder, is_new = _fetch_entry(source, layout, api)
        if is_new or with_extras:
            _tell_license(source, folder)
        return folder
    hub_id = HubId.parse(source, revision)
    if hub_id is None:
        raise ConfigError(f"{source}: expected a zoo name or a Hub id org/name[@revision]")
    if layout is not None:
        raise ConfigError(f"layout: expected it left out, for only names of the zoo have several, found {layout}")
    snapshot, commit = download(hub_id, [*NEEDED, *(EXTRAS if with_extras else ())], api=api)
    if is_exported(snapshot):
        _check(hub_id.repository, snapshot)
        return snapshot
    key = f"{hub_id.repository.replace('/', '--')}@{commit[:12]}"
    return _converted(key, snapshot, {"repository": hub_id.repository, "commit": commit})[0]


def take(name: str, file: Path, layout: str | None = None) -> Path:
    """Return the exported folder that a zoo entry's weights in a file convert to, where the entry is found from now on.

    Args:
        name: of the entry.
        file: as its authors publish it; its hash is checked where it is known.
        layout: of an entry with several sources, which.

    Raises:
        ConfigError: there is no such file or entry, or it is there already from another file.
        DitError: the file holds the weights of another network, or is damaged.
    """
    if name not in entries():
        raise ConfigError(
            f"--from: expected a zoo name beside it, found {name!r}, see `dit models --pretrained`; `dit convert FILE "
            "FOLDER` reads the weights of others"
        )
    source, folder = _source(name, layout), cache_folder("zoo") / name
    if source.embedded:
        raise ConfigError(f"--from: expected it left out, for the weights of {name} are part of this package")
    if not file.is_file():
        raise ConfigError(f"--from: expected a file, found none at {file}")
    digest = check_hash(file, source.sha256)
    if is_exported(folder) and read_config(folder).provenance.sha256 != digest:
        raise ConfigError(f"{name}: it is there already, from another file; remove {folder} to take {file}")
    folder, _ = _converted(name, file, entry_facts(name, source) | {"sha256": digest})
    _tell_license(name, folder)
    return folder


def _check(repository: str, snapshot: Path) -> None:
    """Refuse a repository whose description or weight files are not what they are called."""
    try:
        for path in own_files(snapshot, read_config(snapshot)):
            read_header(path)
    except DitError as error:
        raise DitError(f"{repository}: {error}") from None


def _source(name: str, layout: str | None) -> SourceEntry:
    """Return the source of an entry in a layout.

    Raises:
        ConfigError: it has none there.
    """
    source = entries()[name].source(layout)
    if source is None:
        known = ", ".join(place.layout for place in entries()[name].sources)
        raise ConfigError(f"{name}: expected a layout it has a source in ({known}), found {layout!r}")
    return source


def _fetch_entry(name: str, layout: str | None, api: "HfApi | None") -> tuple[Path, bool]:
    """Return the exported folder of an entry, and whether it was made now."""
    source, taken = _source(name, layout), cache_folder("zoo") / name
    if source.embedded:
        return ASSETS / name, False
    if is_exported(taken) and (layout is None or source.repository is None):
        return taken, False
    if source.page is not None:
        raise DitError(
            f"{name}: its weights have to be fetched by hand: {source.file} from {source.page}{_reported_dead(source)}"
            f"{_elsewhere(name, source)}; then go on with `dit pull {name} --from FILE`"
        )
    facts = entry_facts(name, source)
    try:
        if source.address is not None:
            downloads = cache_folder("zoo") / "downloads"
            file, commit = download_address(source.address, downloads, source.sha256), None
        else:
            assert source.repository is not None
            hub_id = HubId(source.repository, source.revision)
            wanted = NEEDED if source.file is None else [source.file]
            file, commit = download(hub_id, wanted, api=api, may_be_pickle=source.file is not None)
    except DitError as error:
        by_hand = f"; `dit pull {name} --from FILE` takes a file that was fetched by hand"
        raise type(error)(f"{error}{_reported_dead(source)}{_elsewhere(name, source)}{by_hand}") from None
    if source.dead is not None:
        warn(f"{name}: it was still to be had from {source.describe()}{_elsewhere(name, source)}")
    if commit is None:
        made = _converted(name, file, facts | {"sha256": sha256(file)})
        file.unlink()
        return made
    if source.file is not None:
        file = file / source.file
        check_hash(file, source.sha256)
    return _converted(f"{name}@{commit[:12]}", file, facts | {"commit": commit})


def _reported_dead(source: SourceEntry) -> str:
    return f" ({source.dead})" if source.dead else ""


def _elsewhere(name: str, source: SourceEntry) -> str:
    """Return where else an entry's weights are, as the end of a message; nothing where they are nowhere else."""
    others = [other for other in entries()[name].sources if other is not source]
    layouts = {other.layout: f", by --layout {other.layout}" for other in others if other.layout != source.layout}
    places = [other.describe() + layouts.get(other.layout, "") for other in others]
    return f"; also at {' and at '.join(places)}" if places else ""


def _tell_license(name: str, folder: Path) -> None:
    """Say where a license is missing or forbids something."""
    if notice := read_config(folder).provenance.license_notice:
        say(f"{name}: {notice}")


def _converted(key: str, source: Path, facts: dict[str, Any]) -> tuple[Path, bool]:
    """Return the exported folder that a downloaded model converts to, and whether it was not there yet."""
    folder = cache_folder("zoo") / key
    if is_exported(folder):
        return folder, False
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
    return folder, True

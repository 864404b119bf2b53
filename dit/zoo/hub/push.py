"""From an exported folder to a repository on the Hub: checked, described, and in one commit.

What is pushed is an allow-list: never optimizer state, environment files or pickles. The commit names the parent that
was seen, so that it fails rather than hides what somebody else pushed in the meantime; until it is made nothing
changes. Tokens come from the environment or the Hub's own login, and appear nowhere.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from dit.charts import draw_loss
from dit.errors import ConfigError, DitError, did_you_mean
from dit.failpoints import failpoint
from dit.hub_errors import NO_TOKEN, explained
from dit.hub_ids import HubId
from dit.run_files import METRICS_NAME, read_rows
from dit.zoo.cards.card import CARD_NAME, write_card
from dit.zoo.entries import entries
from dit.zoo.folder.adapter import own_files
from dit.zoo.folder.config import (
    CONFIG_NAME,
    FOREIGN_CONFIG_NAME,
    FolderConfig,
    is_exported,
    read_config,
    write_config,
)
from dit.zoo.folder.safetensors_file import read_header, weight_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SHARDS = r"(-\d{5}-of-\d{5})?\.safetensors"
ALLOWED = re.compile(
    rf"config\.json|adapter\.safetensors|model{_SHARDS}|model\.safetensors\.index\.json|recipe\.yaml|metrics\.jsonl|eval\.json|README\.md"
    r"|((transformer|scheduler)/)?[a-z_]+[a-z0-9_]*_[0-9a-f]{8}\.py"
    r"|[\w-]+\.png|dit_config\.json|model_index\.json|scheduler/scheduler_config\.json|(transformer|vae)/config\.json"
    rf"|(transformer|vae)/diffusion_pytorch_model({_SHARDS}|\.safetensors\.index\.json)"
)
TEXTS = (".json", ".jsonl", ".yaml", ".md")
LICENSES = (Path(__file__).parent / "licenses.txt").read_text(encoding="utf-8").split()
"""What the Hub takes as a license. Source: Hub documentation, "Licenses"."""
PERMISSIVE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "unlicense"}
"""Licenses under which a derived model may choose its own; any other one passes on to what is derived from it."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do."""

    files: dict[str, int]
    """Path in the repository -> bytes."""
    left_out: list[str]
    """Files of the folder that are not published."""
    card: str
    """The rendered card."""
    cut: list[str]
    """Places of this machine that the published texts name by their last part alone."""
    address: str | None = None
    """Where the result can be seen; None after a dry run."""


def push(
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
    """Publish an exported folder, or a diffusers folder that was converted here.

    Args:
        folder: the folder; its weights are checked as they are when a model is loaded.
        repository: org/name; it is made where it is not there.
        private: whether a new repository is private.
        revision: branch to push to; made where it is not there.
        tag: tag that the commit gets.
        create_pr: whether to propose the commit instead of making it.
        dry_run: only check and render.
        license: of the weights, by the Hub's identifier; the base model's, or the one in the folder, by default.
        api: client of the Hub; that of the environment by default.

    Raises:
        ConfigError: `repository` is not an id of the Hub.
        DitError: the folder is damaged, a required field is empty, the license is not allowed, or the Hub refuses.
    """
    folder, api = Path(folder), check_client(repository, api, dry_run=dry_run)
    check_folder(folder)
    with _staged(folder, repository, license) as (staged, cut):
        files = {path: (staged / path).stat().st_size for path in published_files(staged)}
        left_out = sorted(set(relative_files(folder)) - set(files))
        card = (staged / CARD_NAME).read_text(encoding="utf-8")
        refuse_secrets({path: (staged / path).read_bytes() for path in files if Path(path).suffix in TEXTS})
        if dry_run:
            return Pushed(files, left_out, card, cut)
        weights = sum(size for path, size in files.items() if path.endswith(".safetensors"))
        address = commit(
            api,
            {path: staged / path for path in files},
            repository,
            message=f"Publish {len(files)} files, {weights / 1e6:.1f} MB of weights",
            private=private,
            revision=revision,
            tag=tag,
            create_pr=create_pr,
        )
    return Pushed(files, left_out, card, cut, address)


def check_client(repository: str, api: "HfApi | None", *, dry_run: bool) -> "HfApi":
    """Return the client of the Hub, that of the environment by default, if it can push to a repository.

    Raises:
        ConfigError: `repository` is not an id of the Hub.
        DitError: there is no token.
    """
    parsed = HubId.parse(repository)
    if parsed is None or parsed.revision is not None:
        raise ConfigError(f"{repository}: expected an id of the Hub, org/name")
    from huggingface_hub import HfApi, get_token

    api = api or HfApi(library_name="dit")
    if not dry_run and not (api.token or get_token()):
        raise DitError(f"{repository}: {NO_TOKEN}")
    return api


def check_folder(folder: Path) -> None:
    """Check that a folder holds a model that loads: every tensor there, of the right shape, finite; or an adapter.

    Raises:
        DitError: naming the file and the tensors.
    """
    from dit.zoo.layouts.native import read_native
    from dit.zoo.layouts.original import ReadOptions
    from dit.zoo.layouts.read import read_foreign
    from dit.zoo.layouts.standalone.files import check_code

    if is_exported(folder) and (base := read_config(folder).adapter_of) is not None:
        _check_adapter(folder, base)
    elif is_exported(folder):
        read_native(folder, read_config(folder), weight_files(folder))
    elif (folder / FOREIGN_CONFIG_NAME).is_file():
        read_foreign(folder, ReadOptions())
        check_code(folder)
    else:
        raise DitError(
            f"{folder}: expected an exported folder or latents, found no {CONFIG_NAME} or index.json of them; `dit "
            "export` makes one of a run, `dit encode` of images"
        )


def _check_adapter(folder: Path, base: str) -> None:
    """Refuse an adapter that is not finite, or that goes over weights which others do not have."""
    from safetensors.torch import load_file

    from dit.zoo.folder.weights import check_finite

    (path,) = own_files(folder, read_config(folder))
    read_header(path)
    check_finite(path, load_file(path))
    if base not in entries() and HubId.parse(base) is None:
        raise DitError(
            f"{folder / CONFIG_NAME}: adapter_of: expected a zoo name or a Hub id, where others find the weights that "
            f"the adapter goes over, found {base}; publish those and name them here, or export without --adapter"
        )


def published_files(folder: Path) -> list[str]:
    """Return the files of a folder that are on the allow-list, in order; names in `/` notation."""
    return [
        path
        for path in relative_files(folder)
        if ALLOWED.fullmatch(path) and (path[-4:] != ".png" or (folder / path).read_bytes().startswith(PNG_MAGIC))
    ]


def check_license(config: FolderConfig, license_id: str | None) -> str:
    """Return the license of a model that is to be published.

    Args:
        config: of the model.
        license_id: that was asked for.

    Raises:
        DitError: none is known, or the base model's does not allow it.
    """
    facts = config.provenance
    base, chosen = facts.base_license, license_id or facts.license
    if not chosen:
        raise DitError(
            "card: license: expected a license of the weights, found none; give --license, such as apache-2.0"
        )
    if chosen not in LICENSES:
        raise DitError(
            f"card: license: expected an identifier of the Hub, or `other` with license_name and license_link in the "
            f"provenance of config.json, found {chosen!r}.{did_you_mean(chosen, LICENSES)}"
        )
    if base and base not in PERMISSIVE and chosen != base:
        origin = facts.base_model or facts.converted_from or "the base model"
        raise DitError(
            f"card: license: expected {base}, which the weights inherit from {origin}, found {chosen}; leave it out"
        )
    if chosen == "other" and not (facts.license_name and facts.license_link):
        raise DitError("card: license other: expected license_name and license_link in the provenance of config.json")
    return chosen


def check_card(config: FolderConfig, folder: Path) -> None:
    """Refuse a card with an empty required field.

    Raises:
        DitError: naming the fields.
    """
    facts = config.provenance
    fields = {
        "training data": facts.data,
        "code version": facts.code_version or facts.converted_from,
        "autoencoder": config.latents,
        "class names": config.id2label or config.num_classes == 0,
        "samples.png": (folder / "samples.png").is_file() or facts.converted_from,
    }
    if empty := [name for name, value in fields.items() if not value]:
        raise DitError(f"{folder}: its card can't be published without {', '.join(empty)}")


@contextmanager
def _staged(folder: Path, repository: str, license_id: str | None) -> Iterator[tuple[Path, list[str]]]:
    """Give a temporary folder with what is to be published, its card rendered for it, and the paths that were cut."""
    with TemporaryDirectory(prefix="dit-push-") as temporary:
        staged = Path(temporary)
        for path in published_files(folder):
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, staged / path)
        cut = _cut_local_paths(staged)
        name = CONFIG_NAME if is_exported(staged) else FOREIGN_CONFIG_NAME
        config = read_config(staged, name)
        facts = config.provenance.updated(license=check_license(config, license_id))
        config = config.model_copy(update={"provenance": facts})
        check_card(config, staged)
        write_config(staged, config, name)
        if (staged / METRICS_NAME).is_file():
            draw_loss(read_rows(staged / METRICS_NAME), staged / "loss.png")
        write_card(staged, title=repository.partition("/")[2], source=repository)
        yield staged, cut


def _cut_local_paths(folder: Path) -> list[str]:
    """Put the last part of a path for every path of this machine in the texts with values, and return the paths."""
    found: set[str] = set()
    for path in [*folder.glob("*.json"), *folder.glob("*.yaml")]:
        text = path.read_text(encoding="utf-8")
        local = {value for value in _texts(yaml.safe_load(text)) if is_local(value)}
        for value in sorted(local, key=len, reverse=True):
            text = text.replace(value, Path(value).name)
        path.write_text(text, encoding="utf-8")
        found |= local
    return sorted(found)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text among values of JSON or YAML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def is_local(value: str) -> bool:
    """Tell whether a text is a path of this machine."""
    is_path = value.startswith(("/", "~", "./", "../")) or ("/" in value and Path(value).exists())
    return is_path and "\n" not in value and bool(Path(value).name)


def commit(
    api: "HfApi",
    files: Mapping[str, Path | bytes],
    repository: str,
    *,
    message: str,
    repo_type: str = "model",
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
) -> str:
    """Make one commit of files, by path in the repository, and return its address; for the options see `push`.

    Raises:
        DitError: the Hub refuses, or the branch has moved in the meantime.
    """
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for path, content in files.items()
    ]
    with explained(repository, revision):
        api.create_repo(repository, repo_type=repo_type, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repository, repo_type=repo_type, branch=revision, exist_ok=True)
        parent = api.repo_info(repository, repo_type=repo_type, revision=revision).sha
        failpoint("push:before-commit")
        made = api.create_commit(
            repository,
            operations,
            repo_type=repo_type,
            commit_message=message,
            revision=revision,
            parent_commit=parent,
            create_pr=create_pr,
        )
    if tag is not None and not create_pr:
        try:
            with explained(repository):
                api.create_tag(repository, repo_type=repo_type, tag=tag, revision=made.oid)
        except DitError as error:
            raise DitError(f"{error}: commit {made.oid[:12]} was made, but the tag {tag!r} was not") from None
    return str(made.pr_url or made.commit_url)


def relative_files(folder: Path) -> list[str]:
    """List the files below a folder, in `/` notation."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refuse_secrets(texts: Mapping[str, bytes]) -> None:
    """Refuse to publish a text, by its path, in which the user's own token stands.

    Raises:
        DitError: naming the file.
    """
    from huggingface_hub import get_token

    token = get_token()
    for path, text in texts.items():
        if token and token.encode() in text:
            raise DitError(f"{path}: it holds your token for the Hub; remove it and make a new one")

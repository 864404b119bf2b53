"""Images and labels in tar archives, read where they lie: nothing is unpacked or executed.

The files of a sample share their name up to the first dot (WebDataset): `7.jpg`, `7.cls` (a number), `7.txt` (a name),
`7.json`. Labels may be in one table instead, in the archive or beside it: metadata or labels, as .csv or .jsonl with a
column file_name, or as .json, a list of such rows or a mapping from file names to labels. Where there is neither, the
first folder of an image is its class.
"""

import csv
import io
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit.data.decode import IMAGE_SUFFIXES
from dit.errors import DitError

if TYPE_CHECKING:
    from datasets import Dataset

TABLE_NAMES = frozenset(f"{stem}.{kind}" for stem in ("metadata", "labels") for kind in ("csv", "json", "jsonl"))
_UNSAFE = frozenset({".pkl", ".pickle", ".pyd", ".pth", ".pt", ".npy", ".npz"})
_PLACE = re.compile(r"(?P<tar>.+)::(?P<offset>\d+)\+(?P<size>\d+)::(?P<member>.+)", re.DOTALL)
Row = dict[str, Any]


def open_tars(paths: Iterable[Path], tables: Iterable[Path] = ()) -> "Dataset":
    """Make a table with a row per sample of archives.

    Args:
        paths: the archives.
        tables: tables of labels that lie beside them.

    Returns:
        A column of images per suffix, `image` where every sample has one of several suffixes. A column per kind of
        label: cls, txt, json or json.KEY, each column of a table, label for folders.

    Raises:
        DitError: an archive or a label can't be read, or a member is refused; the file is named.
    """
    from datasets import Dataset, Features, Image, Value

    labels = {name: row for path in tables for name, row in read_table(str(path), path.read_bytes()).items()}
    samples = [sample for path in paths for sample in _samples(path, dict(labels))]
    if not samples:
        raise DitError(f"{', '.join(map(str, paths))}: expected images, found none")
    suffixes = {name for sample in samples for name in sample if name.startswith(".")}
    single = len(suffixes) > 1 and all(len(suffixes & sample.keys()) == 1 for sample in samples)
    columns: dict[str, list[Any]] = {}
    features: dict[str, Any] = {}
    if single:
        columns["image"] = [sample[next(iter(suffixes & sample.keys()))] for sample in samples]
    else:
        columns |= {suffix[1:]: [sample.get(suffix) for sample in samples] for suffix in sorted(suffixes)}
    features |= dict.fromkeys(columns, Image(decode=False))
    for name in dict.fromkeys(name for sample in samples for name in sample if not name.startswith(".")):
        values = [sample.get(name) for sample in samples]
        is_number = all(value is None or type(value) is int for value in values)
        columns[name] = values if is_number else [None if value is None else str(value) for value in values]
        features[name] = Value("int64" if is_number else "string")
    return Dataset.from_dict(columns, features=Features(features))


def read_member(place: str) -> tuple[bytes, str] | None:
    """Return the bytes of an image of `open_tars` and its name for messages; None where `place` is no such place."""
    if not (match := _PLACE.fullmatch(place)):
        return None
    with open(match["tar"], "rb") as file:
        file.seek(int(match["offset"]))
        return file.read(int(match["size"])), f"{match['tar']}: {match['member']}"


def read_table(name: str, data: bytes) -> dict[str, Row]:
    """Read a table of labels: file name -> its other columns.

    Raises:
        DitError: it is not UTF-8, or has no file_name.
    """
    try:
        text = data.decode("utf-8-sig")
        if name.endswith(".csv"):
            rows: Any = [{k: int(v) if v and v.isdigit() else v for k, v in row.items()} for row in _csv_rows(text)]
        elif name.endswith(".jsonl"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
        if isinstance(rows, dict):
            return {key: value if isinstance(value, dict) else {"label": value} for key, value in rows.items()}
        return {str(row["file_name"]): {k: v for k, v in row.items() if k != "file_name"} for row in rows}
    except (ValueError, csv.Error) as error:
        raise DitError(f"{name}: expected a table of labels in UTF-8, found {error}") from None
    except (KeyError, TypeError):
        raise DitError(f"{name}: expected rows with file_name and a label, found others") from None


def _csv_rows(text: str) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(text))


def _samples(path: Path, labels: dict[str, Row]) -> list[Row]:
    """Return the samples of one archive that have an image: suffix -> place of the image, kind of label -> value."""
    samples: dict[str, Row] = {}
    try:
        # Compressed archives can't be read from the middle.
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, name = member.name.rpartition("/")[::2]
                parts, suffix = Path(member.name).parts, Path(member.name).suffix.lower()
                if member.name.startswith("/") or ".." in parts or suffix in _UNSAFE:
                    raise DitError(
                        f"{path}: refused its member {member.name!r}: expected images, .cls, .txt and .json files"
                    )
                if not member.isfile() or name.startswith("."):
                    continue
                stem, _, kind = name.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}", {})
                if name in TABLE_NAMES:
                    labels |= read_table(f"{path}: {member.name}", _bytes_of(archive, member))
                elif suffix in IMAGE_SUFFIXES:
                    place = f"{path.absolute()}::{member.offset_data}+{member.size}::{member.name}"
                    sample["." + kind.lower()] = {"bytes": None, "path": place}
                    sample["."] = member.name
                elif kind in ("cls", "txt", "json"):
                    sample |= _label(kind, _bytes_of(archive, member), f"{path}: {member.name}")
            if archive.offset > path.stat().st_size:
                raise DitError(f"{path}: expected a whole tar archive, found one that is cut short")
    except (tarfile.TarError, OSError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DitError(f"{path}: expected a whole, uncompressed tar archive, found another file ({problem})") from None
    found = [sample for sample in samples.values() if "." in sample]
    for sample in found:
        name = sample.pop(".")
        known = labels.get(name) or labels.get(name.removeprefix("./")) or labels.get(name.rpartition("/")[2])
        folders = Path(name).parts[:-1]
        sample |= known or ({"label": folders[0]} if folders and not labels and len(sample) == 1 else {})
    return found


def _bytes_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, member.name
    return file.read()


def _label(kind: str, data: bytes, name: str) -> Row:
    """Return what a file beside an image says: {kind: value}, of a JSON mapping {json.KEY: value}."""
    try:
        text = data.decode().strip()
        if kind == "txt":
            return {kind: text}
        value = int(text) if kind == "cls" else json.loads(text)
    except ValueError as error:
        expected = {"cls": "a whole number", "txt": "a name in UTF-8", "json": "JSON in UTF-8"}[kind]
        raise DitError(f"{name}: expected {expected}, found {error}") from None
    if not isinstance(value, dict):
        return {kind: value}
    return {f"json.{key}": entry for key, entry in value.items() if isinstance(entry, (int, str))}

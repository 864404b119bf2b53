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
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

    labels = {name: row for path in tables for name, row in _read_table(str(path), path.read_bytes()).items()}
    samples = [sample for path in paths for sample in _samples(path, dict(labels))]
    if not samples:
        raise DitError(f"{', '.join(map(str, paths))}: expected images, found none")
    suffixes = sorted({name for sample in samples for name in sample if name.startswith(".")})
    if len(suffixes) > 1 and all(len(sample.keys() & set(suffixes)) == 1 for sample in samples):
        images = {"image": [next(sample[suffix] for suffix in suffixes if suffix in sample) for sample in samples]}
    else:
        images = {suffix[1:]: [sample.get(suffix) for sample in samples] for suffix in suffixes}
    columns: dict[str, list[Any]] = dict(images)
    features: dict[str, Any] = dict.fromkeys(images, Image(decode=False))
    for name in dict.fromkeys(name for sample in samples for name in sample if not name.startswith(".")):
        values = [sample.get(name) for sample in samples]
        is_number = all(value is None or type(value) is int for value in values)
        columns[name] = values if is_number else [None if value is None else str(value) for value in values]
        features[name] = Value("int64" if is_number else "string")
    return Dataset.from_dict(columns, features=Features(features))


def check_members(path: Path) -> None:
    """Refuse what `open_tars` refuses in an archive that another reader, which executes pickles, is to open.

    Raises:
        DitError: naming the member.
    """
    with _opened(path, "r:*") as archive:
        for _ in _members(archive, path):
            pass


def read_member(place: str) -> bytes | None:
    """Return the bytes of an image of `open_tars`; None where `place` is no such place."""
    if not (match := _PLACE.fullmatch(place)):
        return None
    with open(match["tar"], "rb") as file:
        file.seek(int(match["offset"]))
        return file.read(int(match["size"]))


def name_member(place: str) -> str | None:
    """Return what messages call an image of `open_tars`; None where `place` is no such place."""
    match = _PLACE.fullmatch(place)
    return match and f"{match['tar']}: {match['member']}"


def _read_table(name: str, data: bytes) -> dict[str, Row]:
    """Read a table of labels: file name -> its other columns."""
    try:
        text = data.decode("utf-8-sig")
        if name.endswith(".csv"):
            rows: Any = list(csv.DictReader(io.StringIO(text)))
            rows = [{key: int(cell) if cell and cell.isdigit() else cell for key, cell in row.items()} for row in rows]
        else:
            rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
        if isinstance(rows, dict):
            return {key: value if isinstance(value, dict) else {"label": value} for key, value in rows.items()}
        return {str(row.pop("file_name")): row for row in rows}
    except (ValueError, csv.Error) as error:
        raise DitError(f"{name}: expected a table of labels in UTF-8, found {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise DitError(f"{name}: expected rows with file_name and a label, found others") from None


def _samples(path: Path, labels: dict[str, Row]) -> list[Row]:
    """Return the samples of one archive that have an image: suffix -> place of the image, kind of label -> value."""
    samples: dict[str, Row] = {}
    names: dict[str, str] = {}  # of the image of each sample
    with _opened(path, "r:") as archive:  # compressed archives can't be read from the middle
        for member in _members(archive, path):
            folder, name = member.name.rpartition("/")[::2]
            stem, _, kind = name.partition(".")
            key, where = f"{folder}/{stem}", f"{path}: {member.name}"
            if name in TABLE_NAMES:
                labels |= _read_table(where, _bytes_of(archive, member))
            elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
                place = f"{path.absolute()}::{member.offset_data}+{member.size}::{member.name}"
                samples.setdefault(key, {})["." + kind.lower()] = {"bytes": None, "path": place}
                names[key] = member.name
            elif kind in ("cls", "txt", "json"):
                samples.setdefault(key, {}).update(_label(kind, _bytes_of(archive, member), where))
        with open(path, "rb") as file:  # whatever is no header ends the loop; of a whole archive it is zeros
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DitError(f"{path}: expected a whole tar archive, found one that is cut short")
    for key, name in names.items():
        known = labels.get(name) or labels.get(name.removeprefix("./")) or labels.get(name.rpartition("/")[2])
        folders = Path(name).parts[:-1]
        is_bare = folders and not labels and len(samples[key]) == 1
        samples[key] |= known or ({"label": folders[0]} if is_bare else {})
    return [samples[key] for key in names]


@contextmanager
def _opened(path: Path, mode: Literal["r:", "r:*"]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, mode) as archive:
            yield archive
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DitError(f"{path}: expected a whole tar archive, found another file ({problem})") from None


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the files of an archive; refuse what would be written elsewhere or that Python could execute."""
    for member in archive:
        name = Path(member.name)
        if name.is_absolute() or ".." in name.parts or name.suffix.lower() in _UNSAFE:
            raise DitError(f"{path}: refused its member {member.name!r}: expected images, .cls, .txt and .json files")
        if member.isfile() and not name.name.startswith("."):
            yield member


def _bytes_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, member.name
    return file.read()


def _label(kind: str, data: bytes, name: str) -> Row:
    """Return what a file beside an image says: {kind: value}, of a JSON mapping {json.KEY: value}."""
    try:
        text = data.decode().strip()
        value = text if kind == "txt" else int(text) if kind == "cls" else json.loads(text)
    except ValueError as error:
        raise DitError(f"{name}: expected a label in UTF-8, found {error}") from None
    if not isinstance(value, dict):
        return {kind: value}
    return {f"json.{key}": entry for key, entry in value.items() if isinstance(entry, (int, str))}

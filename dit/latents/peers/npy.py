"""Arrays of numbers in .npy files, and the files of a folder or of a zip archive: nothing in them is executed.

Format: numpy.lib.format, versions 1.0 and 2.0.
"""

import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np

from dit.data.sources import files_below
from dit.errors import DitError

MEMBER_BYTES = 2**30
"""A member of an archive that says it is longer is refused: it would fill the memory."""


class Files(Protocol):
    """Named files of one place."""

    path: Path
    names: list[str]
    """All of them, sorted, in `/` notation."""

    def where(self, name: str) -> str:
        """Return what messages call one."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of one.

        Raises:
            DitError: it is missing or damaged.
        """
        ...


class FolderFiles:
    """The files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = sorted(file.relative_to(path).as_posix() for file in files_below(path))

    def where(self, name: str) -> str:
        """Return what messages call a file."""
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            DitError: it can't be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DitError(f"{self.where(name)}: expected a file, found {error.strerror}") from None


class ZipFiles:
    """The members of an archive, read where they lie.

    Raises:
        DitError: it is damaged, or a member would be written elsewhere if it were unpacked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DitError(f"{path}: expected a zip archive, found {error}") from None
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        for member in members:
            name = Path(member.filename)
            if name.is_absolute() or ".." in name.parts or member.file_size > MEMBER_BYTES:
                raise DitError(
                    f"{path}: refused its member {member.filename!r} of {member.file_size} bytes: expected files of at "
                    f"most {MEMBER_BYTES} bytes inside the archive"
                )
        self.names = sorted(member.filename for member in members)

    def where(self, name: str) -> str:
        """Return what messages call a member."""
        return f"{self.path}: {name}"

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises:
            DitError: it is missing or damaged.
        """
        try:
            return self._archive.read(name)
        except (
            KeyError,
            OSError,
            ValueError,
            NotImplementedError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DitError(f"{self.where(name)}: expected a whole member, found {error}") from None


def read_npy(files: Files, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the array of a .npy file, which has the shape where one is given.

    Raises:
        DitError: it is missing or damaged, has another shape, or holds objects, which could run code.
    """
    data, where = files.read(name), files.where(name)
    array = _parse(data, where)
    if shape is not None and array.shape != shape:
        raise DitError(f"{where}: expected an array {shape}, found {array.shape}")
    return array


def _parse(data: bytes, where: str) -> np.ndarray:
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        stored_shape, is_fortran, dtype = read_header(file)
        if dtype.kind not in "iuf":
            raise ValueError(f"{dtype}, of which the objects could run code" if dtype.hasobject else dtype)
        return np.frombuffer(data, dtype, offset=file.tell()).reshape(stored_shape, order="F" if is_fortran else "C")
    except ValueError as error:
        found = str(error).splitlines()[0]
        raise DitError(f"{where}: expected a .npy file of numbers, found {found}") from None

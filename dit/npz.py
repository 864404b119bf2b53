"""Arrays of an `.npz` as streams, for ADM's reference images take up to 8 GB. Nothing is ever unpickled."""

import json
import zipfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from math import prod
from os import SEEK_CUR
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from dit.errors import DitError
from dit.files import atomic_file

CHUNK_BYTES = 2**24


class Header(NamedTuple):
    """What an array is before its numbers are read."""

    shape: tuple[int, ...]
    """Its sizes."""
    is_fortran: bool
    """Whether the first axis runs fastest."""
    dtype: np.dtype
    """Type of its numbers."""


class NpzReader:
    """An open `.npz` file.

    Raises:
        DitError: it is missing or no whole `.npz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained("archive"):
            self._zip = zipfile.ZipFile(path)
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]

    def header(self, name: str) -> Header:
        """Return shape and type of an array, of which nothing else is read."""
        with self._opened(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        """Return a whole array.

        Raises:
            DitError: it is missing, cut short, or holds Python objects.
        """
        with self._opened(name) as (file, header):
            values = np.frombuffer(self._take(file, prod(header.shape) * header.dtype.itemsize, name), header.dtype)
            return values.reshape(header.shape, order="F" if header.is_fortran else "C")

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the mapping that a text in JSON holds; nothing where there is no such array.

        Raises:
            DitError: it is something else.
        """
        if name not in self.names:
            return {}
        try:
            return dict(json.loads(str(self.read(name))))
        except (ValueError, TypeError) as error:
            raise DitError(f"{self.path}: expected {name} in JSON, found {error}") from None

    def rows(self, name: str, batch_size: int, starts: Container[int] | None = None) -> Iterator[np.ndarray]:
        """Yield an array (N, ...) in batches of rows, without reading it whole; of given first rows, those alone."""
        with self._opened(name) as (file, header):
            num_rows, *shape = header.shape
            if header.is_fortran and shape:
                raise DitError(f"{self.path}: expected {name} in C order, to be read by rows, found Fortran order")
            row_bytes = prod(shape) * header.dtype.itemsize
            for start in range(0, num_rows, batch_size):
                num = min(batch_size, num_rows - start)
                if starts is not None and start not in starts:
                    file.seek(num * row_bytes, SEEK_CUR)
                    continue
                yield np.frombuffer(self._take(file, num * row_bytes, name), header.dtype).reshape(num, *shape)

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """Open an array behind its header, which is given too."""
        with self._explained(name):
            if name not in self.names:
                raise DitError(f"{self.path}: expected an array {name}, found {', '.join(self.names) or 'none'}")
            with self._zip.open(f"{name}.npy") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                header = Header(*read(file))
                if header.dtype.hasobject:
                    raise DitError(
                        f"{self.path}: {name} holds pickled Python objects, which can run code; it was not opened"
                    )
                yield file, header

    def _take(self, file: IO[bytes], num_bytes: int, name: str) -> bytearray:
        found = bytearray()
        while len(found) < num_bytes and (chunk := file.read(min(CHUNK_BYTES, num_bytes - len(found)))):
            found += chunk
        if len(found) < num_bytes:
            raise DitError(f"{self.path}: expected a whole array {name}, found it cut short; fetch the file again")
        return found

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except DitError:
            raise
        except FileNotFoundError:
            raise DitError(f"{self.path}: expected an .npz file, found nothing there") from None
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise DitError(
                f"{self.path}: expected a whole .npz file, found a damaged one or another ({name}: {error})"
            ) from None


class NpzWriter:
    """Adds arrays to an `.npz` file that `write_npz` opened."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive

    def write(self, name: str, array: np.ndarray) -> None:
        """Write a whole array."""
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as file:
            npy.write_array(file, np.asarray(array, order="C"), allow_pickle=False)

    @contextmanager
    def rows(self, name: str, shape: tuple[int, ...], dtype: str) -> Iterator[IO[bytes]]:
        """Give the file that the bytes of an array's rows are to be written to, in C order."""
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as file:
            header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            yield file


@contextmanager
def write_npz(path: Path) -> Iterator[NpzWriter]:
    """Give a writer of an `.npz` file, uncompressed, that is there when the block ends well, and else not at all."""
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        yield NpzWriter(archive)

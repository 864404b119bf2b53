"""The page's pictures, in memory under names that nobody can guess; the oldest go when there are too many."""

import secrets
import threading
from collections import OrderedDict

MAX_BYTES = 2**27
PREFIX = "/pictures/"


class Pictures:
    """PNG files by address."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, file: bytes) -> str:
        """Keep a file and return its address on the server."""
        address = f"{PREFIX}{secrets.token_urlsafe(24)}.png"
        with self._lock:
            self._files[address] = file
            self._num_bytes += len(file)
            while self._num_bytes > self._max_bytes and len(self._files) > 1:
                self._num_bytes -= len(self._files.popitem(last=False)[1])
        return address

    def get(self, address: str) -> bytes | None:
        """Return the file of an address; None where there is none."""
        return self._files.get(address)

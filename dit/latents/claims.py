"""Which process works on which part: locks on the bytes of one file, a byte for each part.

The system drops a process's locks when it dies, whatever it dies of, so nothing is ever claimed by the dead; network
file systems pass such locks on between machines. Forked workers don't inherit them.
"""

import errno
import fcntl
from pathlib import Path
from types import TracebackType
from typing import Self

from dit.display import warn

_TAKEN = (errno.EACCES, errno.EAGAIN)


class Claims:
    """Claims of this process while the block runs.

    Args:
        path: the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_locks = True

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, number: int) -> bool:
        """Claim a part, and tell whether it is this process's now. Without locks it always is: work is done twice."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if self._has_locks:
                warn(
                    f"{self._path}: the file system has no locks ({error.strerror}); processes may encode a part twice"
                )
            self._has_locks = False
        return True

    def release(self, number: int) -> None:
        """Give up the claim of a part."""
        if self._has_locks:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

"""A pickle of plain containers and numpy arrays, such as EDM2's reference statistics, read without running code.

Nothing but the four functions that rebuild arrays can be named in it; every other name is refused before it is called.
"""

import pickle
from pathlib import Path
from typing import Any

from dit.errors import DitError

_ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # of the bytes of arrays, in pickles of protocol 2
}


class _Forbidden(pickle.UnpicklingError):
    """Something else than a numpy array."""


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Forbidden(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_numpy_pickle(path: Path) -> Any:
    """Read a pickle that holds numpy arrays and plain values.

    Raises:
        DitError: it holds anything else, or is damaged.
    """
    with open(path, "rb") as file:
        try:
            return _NumpyUnpickler(file).load()
        except _Forbidden as error:
            raise DitError(
                f"{path}: it holds {error}, which could run code; expected numpy arrays and plain values"
            ) from None
        except Exception as error:  # a damaged pickle raises errors of many kinds
            problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise DitError(f"{path}: expected a pickle of numpy arrays, found another file ({problem})") from None

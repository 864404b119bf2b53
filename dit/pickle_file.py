"""The one place where a pickle of torch.save is opened: for conversions, and the latent statistics of LightningDiT.

torch.load with weights_only builds tensors and plain containers and calls nothing. One further class is allowed:
argparse.Namespace, which the training checkpoints of the DiT lineage hold as `args` and which runs no code.
"""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from dit.errors import DitError

ZIP_MAGIC = b"PK\x03\x04"


def load_pickle(path: str | Path) -> Any:
    """Read a file that torch.save wrote, memory-mapped where its format allows it.

    Raises:
        DitError: the file holds anything but tensors, plain values and argparse.Namespace, or is damaged.
    """
    with open(path, "rb") as file:
        is_zip = file.read(4) == ZIP_MAGIC
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pickle protocols: what can't be read is an error anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except OSError:
            raise
        except Exception as error:  # a damaged file raises errors of many kinds
            raise DitError(f"{path}: it was not loaded, for {_reason(str(error))}") from None


def _reason(text: str) -> str:
    forbidden = re.search(r"GLOBAL (\S+)", text) or re.search(r"`?([\w.]+)`? (?:was not|is not) .*allowed", text)
    if forbidden:
        return f"it holds {forbidden[1]}, which could run code; expected tensors and plain values"
    return "it is damaged or was not written by torch.save"

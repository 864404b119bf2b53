"""What a card reads in `eval.json`; an evaluation writes more. Free of torch."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dit.files import read_json
from dit.validation import validate

FIGURES_NAME = "eval.json"


class Figures(BaseModel):
    """The figures of one evaluation, and what they depend on; one of the likelihood alone has no others."""

    num: int | None = None
    """Number of samples."""
    seed: int | None = None
    """Seed of the samples."""
    features: str = ""
    """Feature extractor."""
    features_sha256: str | None = None
    """Hash of its weights."""
    frechet_distance: float | None = None
    """Samples against the reference."""
    frechet_floor: float | None = None
    """Training images against it."""
    accuracy: float | None = None
    """Share of samples that the classifier takes for what was asked."""
    reference: dict[str, Any] = {}
    """The images that the samples were compared with."""
    sampling: dict[str, Any] = {}
    """Sampling configuration, in the format of its time."""
    versions: dict[str, str] = {}
    """Versions of the packages."""


def read_figures(folder: Path) -> Figures | None:
    """Read a folder's figures; None where nothing was measured.

    Raises:
        DitError: the file is damaged; the field is named.
    """
    path = folder / FIGURES_NAME
    return validate(Figures, read_json(path), origin=str(path)) if path.is_file() else None

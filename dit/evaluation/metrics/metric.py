"""What every figure of samples has in common; each metric is a file beside this one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dit.evaluation.feature_set import FeatureSet


@dataclass(frozen=True)
class Figure:
    """One measured number, and how far it may be trusted."""

    value: float
    """The number itself, as papers print it."""
    standard_error: float | None = None
    """Of the value over samples drawn anew, the reference being given; None where there is no estimate."""
    floor: float | None = None
    """What the finite number of samples adds to a distance: the value that about perfect samples would have."""
    spread: float | None = None
    """Standard deviation over splits or subsets, which some papers print behind ±; not an error of the value."""
    note: str | None = None
    """What a reader of the value has to know."""


class Metric(Protocol):
    """A measure of samples beside a reference; settings are the fields of a frozen dataclass."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its figures."""
        ...

    @property
    def features(self) -> str:
        """Which features of the network it takes."""
        ...

    @property
    def reference(self) -> str:
        """What it needs of the reference: `none`, `moments` (mean and covariance), or `images`."""
        ...

    def num_needed(self, width: int) -> int:
        """Return the least number of samples, and of reference images where it needs them, at D features."""
        ...

    def measure(self, samples: FeatureSet, reference: FeatureSet, /) -> Mapping[str, Figure]:
        """Return its figures by name; fewer where they have no meaning."""
        ...

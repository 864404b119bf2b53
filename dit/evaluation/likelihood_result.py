"""What the likelihood of held-out latents was found to be: the dataclasses, for `eval.json`, and the printed table."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from dit.sampling.config import LikelihoodConfig

MEANING = (
    "these are densities of the normalised latents: less is better, figures below 0 are possible, and none can be "
    "compared with bits per pixel"
)
MEANING_OF_STEP_0 = (
    "the term of t=0 is the density of the continuous latents under the last reverse step, not the probability of "
    "8-bit pixels; published training losses put the latter there, as if latents were pixels in [-1, 1], and that "
    "number, `discretised`, counts no bits"
)


@dataclass(frozen=True)
class Figure:
    """A mean over samples, in nats per dimension of the latent."""

    nats_per_dim: float
    """The mean."""
    standard_error: float
    """Its standard error over samples, each with its own probes and noise."""

    @property
    def bits_per_dim(self) -> float:
        """The mean in bits."""
        return self.nats_per_dim / math.log(2)

    def to_dict(self) -> dict[str, float]:
        """Return plain JSON values, in both units."""
        return {
            **asdict(self),
            "bits_per_dim": self.bits_per_dim,
            "bits_standard_error": self.standard_error / math.log(2),
        }


@dataclass(frozen=True)
class BoundFigures:
    """The variational bound of a Gaussian process."""

    total: Figure
    """Upper bound of the negative log density: the prior and all terms."""
    prior: Figure
    """What the last noised latents still differ from pure noise."""
    steps: Figure
    """Sum of the terms of all steps above 0."""
    step_0: Figure
    """The density of the latents under the last reverse step; see `MEANING_OF_STEP_0`."""
    discretised: Figure
    """The term of step 0 as in the training loss, in place of `step_0`; not part of the total."""
    terms: tuple[float, ...]
    """Mean of each step's term, from step 0 on."""
    variance: str
    """Reverse variance."""


@dataclass(frozen=True)
class LatentLikelihood:
    """The likelihood of held-out latents, with what is needed to repeat it."""

    num: int
    """Number of latents."""
    seed: int
    """Of the latents' draws, the probes and the noise."""
    num_dims: int
    """Dimensions of one latent."""
    nll: Figure
    """The negative log density, through the probability flow."""
    probe_standard_error: float | None
    """The part of its standard error that is due to the probes; None where there is one probe."""
    num_calls: int
    """Network calls per latent."""
    t_start: float
    """Time at which the flow is noise."""
    t_end: float
    """Time at which the flow is data; above 0 the density is of latents with noise of deviation `smoothing`."""
    smoothing: float
    """sigma / alpha at t_end."""
    gaussian: Figure
    """The same figure of a Gaussian with the latents' own mean and variance in each channel."""
    bound: BoundFigures | None
    """For a Gaussian process."""
    settings: LikelihoodConfig
    """How it was computed."""
    latents_fingerprint: str
    """Of the held-out moments."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for `eval.json`."""
        values = _plain(self)
        if self.bound is not None:
            values["bound"] = _plain(self.bound) | {"meaning_of_step_0": MEANING_OF_STEP_0}
        return values | {"settings": self.settings.model_dump(mode="json"), "unit": "nats per latent dimension"}


def _plain(figures: Any) -> dict[str, Any]:
    return {name: value.to_dict() if isinstance(value, Figure) else value for name, value in vars(figures).items()}


def print_likelihood(found: LatentLikelihood) -> None:
    """Print the figures with their standard errors as a table."""
    from rich.console import Console
    from rich.table import Table

    title = f"{found.num} held-out latents: nats and bits per dimension of the latent"
    table = Table("", "nats/dim", "bits/dim", "", title=title, title_justify="left")
    for name, figure, note in _rows(found):
        error = figure.standard_error
        nats = f"{figure.nats_per_dim:.3f} ± {error:.3f}"
        bits = f"{figure.bits_per_dim:.3f} ± {error / math.log(2):.3f}"
        table.add_row(name, nats, bits, note)
    console = Console()
    console.print(table)
    console.print(f"NLL: {MEANING}", markup=False, highlight=False, soft_wrap=True)
    if found.bound is not None:
        console.print(f"t=0: {MEANING_OF_STEP_0}", markup=False, highlight=False, soft_wrap=True)


def _rows(found: LatentLikelihood) -> list[tuple[str, Figure, str]]:
    smoothed = f", latents with noise {found.smoothing:.2g}" if found.smoothing else ""
    probes = "" if found.probe_standard_error is None else f"; ± {found.probe_standard_error:.3f} by probes"
    rows = [
        ("NLL by the ODE", found.nll, f"t {found.t_end:.2g} to {found.t_start:g}{smoothed}{probes}"),
        ("a Gaussian's", found.gaussian, "by mean and variance of each channel"),
    ]
    if found.bound is not None:
        bound = found.bound
        rows += [
            ("variational bound", bound.total, f"{bound.variance} variance"),
            ("  prior", bound.prior, "last step against pure noise"),
            (f"  steps 1 to {len(bound.terms) - 1}", bound.steps, "divergence from the exact reverse steps"),
            ("  t=0", bound.step_0, "density of the latents; see below"),
            ("(t=0 in training)", bound.discretised, "8-bit bins; not in the bound"),
        ]
    return rows

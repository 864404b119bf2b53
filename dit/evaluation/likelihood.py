"""How likely held-out latents are: through the probability flow, and for a Gaussian process by its variational bound.

Both figures are of densities of the normalised latents, so they are in nats (or bits) per dimension of the latent: a
density changes with the scale of what it is of, and neither can be compared with bits per pixel. Smaller is better;
they may be negative. Beside them stands what a Gaussian with the held-out latents' own mean and variance in each
channel reaches.

A latent is a draw from the autoencoder's moments, keyed by seed and index. B latents of a batch, S in all, K probes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dit.diffusion.gaussian import GaussianProcess
from dit.diffusion.process import Process
from dit.display import Progress
from dit.errors import ConfigError
from dit.evaluation.likelihood_result import BoundFigures, Figure, LatentLikelihood
from dit.latents.codec import Codec
from dit.latents.dataset import LatentDataset
from dit.rng import Purpose, normal, permutation
from dit.sampling.bound import Bound, variational_bound
from dit.sampling.config import LikelihoodConfig
from dit.sampling.likelihood import ode_nll


def evaluate_likelihood(
    model: Any,
    process: Process,
    codec: Codec,
    held_out: LatentDataset,
    likelihood: LikelihoodConfig,
    *,
    class_names: Sequence[str],
    seed: int = 0,
    batch_size: int = 100,
    progress: bool = True,
) -> LatentLikelihood:
    """Compute the likelihood of held-out latents given their classes.

    Args:
        model: the network, on the device to compute on.
        process: the process it was trained with.
        codec: draws and normalises the latents.
        held_out: their moments.
        likelihood: how many latents, and how.
        class_names: the model's classes; empty for an unconditional one.
        seed: of the latents' choice, their draws, the probes and the noise.
        batch_size: latents at a time.
        progress: show progress on stderr.

    Raises:
        ConfigError: there are too few held-out latents, or they are of other classes than the model's.
        DitError: the network returned values that are not finite.
    """
    if len(held_out) < 2:
        raise ConfigError(f"data: expected at least 2 held-out images for a likelihood, found {len(held_out)}")
    drawn = _draw(held_out, codec, _labels_of_model(held_out, class_names), num=likelihood.num, seed=seed)
    batches = partial(_in_batches, drawn, batch_size, next(model.parameters()).device, progress)
    solve = partial(ode_nll, model, process, likelihood=likelihood, seed=seed)
    flows, bound = batches("likelihood", solve), None
    estimates = torch.cat([flow.nats_per_dim for flow in flows], dim=1)  # (K, S)
    if isinstance(process, GaussianProcess):
        sum_up = partial(variational_bound, model, process, variance=likelihood.variance, seed=seed)
        learned = process.learn_sigma and likelihood.variance == "auto"
        variance = "learned" if learned else "upper" if likelihood.variance == "auto" else likelihood.variance
        bound = _bound_figures(batches("variational bound", sum_up), variance)
    return LatentLikelihood(
        num=len(drawn.indices),
        seed=seed,
        num_dims=drawn.latents[0].numel(),
        nll=_figure(estimates.mean(0)),
        probe_standard_error=_probe_error(estimates),
        num_calls=max(flow.num_calls for flow in flows),
        t_start=flows[0].t_start,
        t_end=flows[0].t_end,
        smoothing=flows[0].smoothing,
        gaussian=_figure(gaussian_nll(drawn.latents)),
        bound=bound,
        settings=likelihood,
        latents_fingerprint=held_out.fingerprint,
    )


def gaussian_nll(latents: Tensor) -> Tensor:
    """Return -log N of latents (S, C, H, W) under their own mean and variance per channel: (S,) nats per dimension."""
    latents = latents.double()
    mean = latents.mean(dim=(0, 2, 3), keepdim=True)
    variance = latents.var(dim=(0, 2, 3), keepdim=True)
    nll = 0.5 * ((latents - mean).square() / variance + (2 * math.pi * variance).log())
    return nll.flatten(1).mean(1)


def _labels_of_model(held_out: LatentDataset, class_names: Sequence[str]) -> Tensor | None:
    """Return the model's label for each class of the data; None for an unconditional model, whose one label is 0."""
    if not class_names:
        return None
    missing = [name for name in held_out.class_names if name not in class_names]
    if missing or not held_out.class_names:
        found = ", ".join(map(repr, missing[:3])) or "none"
        raise ConfigError(
            f"data: expected held-out images of the model's classes {class_names[0]!r}, ..., found {found}"
        )
    return torch.tensor([list(class_names).index(name) for name in held_out.class_names])


@dataclass(frozen=True)
class _Drawn:
    """Held-out latents with the model's labels."""

    indices: list[int]
    """S positions among the held-out latents, ascending."""
    latents: Tensor
    """(S, C, H, W) on the CPU."""
    labels: Tensor
    """(S,) int64."""


def _draw(held_out: LatentDataset, codec: Codec, label_of: Tensor | None, *, num: int, seed: int) -> _Drawn:
    """Choose at most `num` held-out latents and draw each from its moments; label_of: (K,) the model's, or None."""
    indices = sorted(permutation(seed, Purpose.ORDER, len(held_out))[:num].tolist())
    moments, classes = held_out.get(indices)
    noise = normal(seed, Purpose.LATENT_DRAW, indices, held_out.latents_shape)
    latents = codec.latents_from_moments(moments, noise).cpu()
    return _Drawn(indices, latents, torch.zeros_like(classes) if label_of is None else label_of[classes])


def _in_batches(
    drawn: _Drawn,
    batch_size: int,
    device: torch.device,
    progress: bool,
    title: str,
    function: Callable[..., Any],
) -> list[Any]:
    """Call function(latents, labels, positions=, progress=) for one batch after the other, with a bar."""
    found = []
    with _bar(title, len(drawn.indices), progress) as advance:
        for start in range(0, len(drawn.indices), batch_size):
            batch = slice(start, start + batch_size)
            positions, labels = drawn.indices[batch], drawn.labels[batch].to(device)
            found.append(function(drawn.latents[batch], labels, positions=positions, progress=advance(len(positions))))
    return found


def _bound_figures(bounds: list[Bound], variance: str) -> BoundFigures:
    terms = torch.cat([bound.terms for bound in bounds])  # (S, N)
    return BoundFigures(
        total=_figure(torch.cat([bound.total for bound in bounds])),
        prior=_figure(torch.cat([bound.prior for bound in bounds])),
        steps=_figure(terms[:, 1:].sum(1)),
        step_0=_figure(terms[:, 0]),
        discretised=_figure(torch.cat([bound.discretised for bound in bounds])),
        terms=tuple(terms.mean(0).tolist()),
        variance=variance,
    )


def _figure(values: Tensor) -> Figure:
    """Summarise one value per sample (S,)."""
    return Figure(values.mean().item(), values.std().item() / len(values) ** 0.5)


def _probe_error(estimates: Tensor) -> float | None:
    """Return the deviation of the mean of estimates (K, S) that drawing the probes anew would cause."""
    num_probes, num_samples = estimates.shape
    if num_probes < 2:
        return None
    return (estimates.var(dim=0).mean().item() / (num_probes * num_samples)) ** 0.5


@contextmanager
def _bar(title: str, num: int, enabled: bool) -> Iterator[Callable[[int], Callable[[float], None]]]:
    """Show a bar over samples that also moves within a batch: advance(batch size) -> function of the share done."""
    with Progress(num, title, enabled=enabled) as progress:

        def advance(size: int) -> Callable[[float], None]:
            furthest = 0.0

            def to(share: float) -> None:
                nonlocal furthest
                progress.advance(size * max(0.0, share - furthest))
                furthest = max(furthest, share)

            return to

        yield advance

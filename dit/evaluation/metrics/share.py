"""A share of rows as a figure."""

from torch import Tensor

from dit.evaluation.metrics.metric import Figure


def share(is_so: Tensor, *, scale: float = 1.0) -> Figure:
    """Return the share of rows (N,) bool that are so, in [0, scale], with the standard error of independent rows."""
    p = is_so.double().mean().item()
    return Figure(scale * p, standard_error=scale * (p * (1 - p) / len(is_so)) ** 0.5)

"""Root-mean-square normalisation: RMSNorm(x) = w x / sqrt(mean(x^2) + eps).

Source: Zhang & Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4.
"""

from torch import nn


def rms_norm(size: int) -> nn.RMSNorm:
    """Return the normalisation over the last axis (..., size) with a weight, eps 1e-6, by torch's own operator."""
    return nn.RMSNorm(size, eps=1e-6)

"""Embeddings of the three inputs: latent patches, time and class label."""

import math

import torch
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Latent (B, C, H, W) to tokens (B, T, D): a convolution of stride p, tokens in row-major order."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, C, H, W)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class BottleneckPatchEmbed(nn.Module):
    """Image (B, C, H, W) to tokens (B, T, D) through a narrower layer: patches to b values, those to D.

    Source: Li & He, "Back to basics: let denoising generative models denoise", 2025, section 4.3.
    """

    def __init__(
        self, in_channels: int, bottleneck_size: int, hidden_size: int, patch_size: int, *, first_bias: bool = False
    ) -> None:
        super().__init__()
        self.proj1 = nn.Conv2d(in_channels, bottleneck_size, kernel_size=patch_size, stride=patch_size, bias=first_bias)
        self.proj2 = nn.Conv2d(bottleneck_size, hidden_size, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, C, H, W)."""
        return self.proj2(self.proj1(x)).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Put patches back into an image: (B, T, p * p * C) with entries ordered (p, p, C) to (B, C, H, W)."""
    (rows, columns), p = grid_size, patch_size
    patches = tokens.unflatten(1, (rows, columns)).unflatten(-1, (p, p, -1))  # (B, rows, columns, p, p, C)
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, C, rows * p, columns * p)


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Cut an image into patches, the inverse of `unpatchify`: (B, C, H, W) to (B, T, p * p * C)."""
    p = patch_size
    patches = x.unflatten(2, (-1, p)).unflatten(4, (-1, p))  # (B, C, rows, p, columns, p)
    return patches.permute(0, 2, 4, 3, 5, 1).flatten(3, 5).flatten(1, 2)


def timestep_frequencies(
    num_frequencies: int, max_period: float = 10000.0, *, device: torch.device | None = None
) -> Tensor:
    """Return max_period^(-i / num_frequencies) for i = 0..num_frequencies-1, float32."""
    exponents = torch.arange(num_frequencies, dtype=torch.float32, device=device) / num_frequencies
    return torch.exp(-math.log(max_period) * exponents)


class TimestepEmbedder(nn.Module):
    """Time (...) to (..., D): 256 features [cos | sin] in float32, then an MLP with SiLU.

    Source: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021; DiT paper, section 3.2.
    """

    num_features = 256

    def __init__(self, hidden_size: int, *, max_period: float = 10000.0) -> None:
        super().__init__()
        self.max_period = max_period
        enter, leave = nn.Linear(self.num_features, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(enter, nn.SiLU(), leave)

    def features(self, t: Tensor) -> Tensor:
        """Return the sinusoidal features of t (...): (..., 256) float32, or float64 as t is."""
        frequencies = timestep_frequencies(self.num_features // 2, self.max_period, device=t.device)
        angles = t.to(torch.promote_types(t.dtype, torch.float32))[..., None] * frequencies  # (..., 128)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    def forward(self, t: Tensor) -> Tensor:
        """Return (..., D) for t (...), an integer step or a real time."""
        return self.mlp(self.features(t).to(next(self.mlp.parameters()).dtype))


class FourierEmbedder(nn.Module):
    """Time (...) to (..., D): 512 features [sin | cos] of 2 pi t W in float32, then an MLP with SiLU.

    W holds 256 frequencies that are drawn once, N(0, 1), are not trained, and are part of the weights.

    Source: Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains",
    NeurIPS 2020, equation 5.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(256), requires_grad=False)
        if not self.W.is_meta:
            nn.init.normal_(self.W)
        self.mlp = nn.Sequential(nn.Linear(512, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, t: Tensor) -> Tensor:
        """Return (..., D) for real times t (...)."""
        angles = t.float()[..., None] * self.W.float() * (2 * math.pi)  # (..., 256)
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class LabelEmbedder(nn.Module):
    """Class label (...) to (..., D) by a table whose last row is the null class."""

    def __init__(self, num_rows: int, hidden_size: int) -> None:
        super().__init__()
        # On the meta device a given weight keeps nn.Embedding from drawing one, which imports torch's compiler there.
        on_meta = torch.get_default_device().type == "meta"
        weight = torch.empty(num_rows, hidden_size) if on_meta else None
        self.embedding_table = nn.Embedding(num_rows, hidden_size, _weight=weight)

    def forward(self, y: Tensor) -> Tensor:
        """Return (..., D) for y (...) int64."""
        return self.embedding_table(y)

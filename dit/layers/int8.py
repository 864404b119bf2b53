"""A linear layer whose product is one of 8-bit integers, for inference on a CPU.

y = s_x s_w (q_x q_w) + b with q = round(value / s): s_w per output, found once; s_x over the whole input, found in
every call. The product takes 0.6 of the time of bfloat16's, and the passes over the input cost much of that again: on
two cores with AMX a call of DiT-XL/2 was 1.24 times as fast as in bfloat16, one of B/2 0.95 and one of S/2 0.79 times.

Source: Dettmers et al., "LLM.int8()", NeurIPS 2022, section 2.1 (row-wise scales, without its outliers).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from dit.errors import ConfigError

LARGEST = 126
"""Integer of the largest number: rounding its quotient in bfloat16 can add one, and 128 would become -128."""


class Int8Linear(nn.Module):
    """Replaces a linear layer.

    Args:
        layer: on a CPU, with a bias.

    Raises:
        ConfigError: oneDNN is not part of this build of torch, or the layer is elsewhere.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        if layer.weight.device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
            raise ConfigError(f"int8: expected a CPU and torch with oneDNN, found {layer.weight.device.type}")
        weight = layer.weight.detach().float()  # (out, in)
        self.scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST  # (out,)
        self.zero = torch.zeros(len(weight), dtype=torch.int64)
        self.weight = torch.ops.onednn.qlinear_prepack((weight / self.scale[:, None]).round().to(torch.int8), None)
        self.bias = layer.bias

    @torch.no_grad()
    def forward(self, x: Tensor, activation: Literal["none", "gelu"] = "none") -> Tensor:
        """Return activation(layer(x)), GELU in its tanh approximation, for x (..., in): of x's type."""
        low, high = torch.aminmax(x)
        scale = max(-float(low), float(high), torch.finfo(torch.float32).tiny) / LARGEST
        quantised = (x * (1 / scale)).round_().to(torch.int8)
        algorithm = "tanh" if activation == "gelu" else ""
        return torch.ops.onednn.qlinear_pointwise(
            quantised, scale, 0, self.weight, self.scale, self.zero, self.bias, 1.0, 0, x.dtype,
            activation, [], algorithm,
        )  # fmt: skip

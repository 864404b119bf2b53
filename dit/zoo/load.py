"""Loading a network alone."""

from pathlib import Path

import torch
from torch import nn

from dit.zoo.folder.weights import empty_model, fill, usual_type
from dit.zoo.source import locate


def load_model(
    source: str | Path,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Load a network alone, in eval mode; of a run the averaged weights of its newest checkpoint.

    Args:
        source: zoo name, run folder, exported folder, `.safetensors` file of one of them, or Hub id.
        revision: branch, tag or commit of a Hub id.
        device: where the weights go; the CPU by default.
        dtype: type of the weights; by default the file's, and on a CPU float32 for float16, in which it is slow.

    Raises:
        ConfigError: there is no such source.
        DitError: what is there is damaged; the tensors are named.
    """
    located = locate(source, revision)
    empty = empty_model(located.config.model)
    return fill(empty, located.weights, device=device, dtype=dtype or usual_type(located.weights, device))

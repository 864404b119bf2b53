"""Less memory for more time: what a block computed is dropped, and computed again when its gradients are due.

`blocks` keeps a block's inputs alone. `selective` also keeps what attention returned, and every product of matrices
that is no wider than its input: in a transformer's block they are narrow and cost half of the time, while the wide ones
that are dropped, queries, keys and values and the inside of the MLP, fill most of the memory.

Source: Chen et al., "Training deep nets with sublinear memory cost", 2016; Korthikanti et al., "Reducing activation
recomputation in large transformer models", MLSys 2023.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from dit.models.network import Network

N = TypeVar("N", bound=Network)

_ATEN = torch.ops.aten
ATTENTION = frozenset(
    {
        _ATEN._scaled_dot_product_flash_attention.default,
        _ATEN._scaled_dot_product_efficient_attention.default,
        _ATEN._scaled_dot_product_cudnn_attention.default,
        _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    }
)
PRODUCTS = {_ATEN.mm.default: 0, _ATEN.bmm.default: 0, _ATEN.addmm.default: 1}
"""Products, and where the first of their two operands is among the arguments."""


def recompute_blocks(network: N, kind: str) -> N:
    """Let the blocks compute again in the backward pass what they did not keep, in place, before they are compiled.

    Args:
        network: the network.
        kind: none, blocks or selective, as `train.activation_checkpointing` says.
    """
    if kind != "none":
        for block in network.block_list():
            block.forward = _recomputed(block, kind)
    return network


def _recomputed(block: nn.Module, kind: str) -> Callable[..., Any]:
    forward = block.forward
    has_dropout = any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in block.modules())
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": has_dropout}
    if kind == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keeps)

    def call(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(forward, *inputs, **options, **named)

    return call


def _keeps(context: Any, operation: Any, *inputs: Any, **named: Any) -> CheckpointPolicy:
    if operation in ATTENTION:
        return CheckpointPolicy.MUST_SAVE
    if operation in PRODUCTS:
        first, second = inputs[PRODUCTS[operation] :][:2]
        if second.shape[-1] <= first.shape[-1]:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE

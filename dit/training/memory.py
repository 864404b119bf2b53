"""Memory of a training step, from a step that is made without memory: its tensors have shapes and no numbers.

Where the weights are dealt to n processes, each keeps 1/n of every parameter, gradient, state and average. Besides it
holds what is gathered: what lies outside the blocks, and two blocks, the one that computes and the next; and the
gradients of a block until they are exchanged, or, with accumulation, of all.

What is counted is what torch asks for. A process takes more besides: the program itself, what the allocator holds in
reserve, the kernels' own working memory.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from dit.config import Recipe
from dit.models.families import arguments_of
from dit.models.network import Network, narrowest_width
from dit.models.registry import build
from dit.training.activations import recompute_blocks
from dit.training.ranks.processes import resolve_precision
from dit.training.ranks.sharding import parts_of
from dit.training.setup import freeze
from dit.training.weights.optim import create_optimizer

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of each kind in one process."""

    parameters: int
    """Weights and buffers of the network."""
    gradients: int
    """Of what is trained."""
    optimizer: int | None
    """Its state; None: it decides by numbers, which are not there."""
    averages: int
    """Averages of the weights."""
    activations: int
    """What the forward pass leaves for the backward pass."""
    passes: int
    """The most that activations, gradients and what is on its way take together."""
    gathered: int = 0
    """Weights that other processes keep, and gradients of them, while blocks compute."""

    @property
    def peak(self) -> int:
        """The most that there is at a time."""
        kept = self.parameters + (self.optimizer or 0) + self.averages
        return kept + self.gathered + max(self.passes, self.gradients)


def measure_step(
    recipe: Recipe, *, device: torch.device, num_processes: int, as_gpu: bool = False
) -> tuple[StepMemory, str]:
    """Return the memory of a step that is not compiled, and its precision: fp32, bf16 or fp16.

    The loss is that of one pass of the network; what auxiliary losses and derivatives along a path keep is not in it.

    Args:
        recipe: with the arguments of the network decided.
        device: where it is to train.
        num_processes: that share a batch.
        as_gpu: whether a CPU stands for a GPU: without the ways that it has of its own to compute in bfloat16.
    """
    name, train = recipe.model.name, recipe.train
    with torch.device("meta"):
        network = build(name, arguments_of(name, **recipe.model.overrides())).train()
        freeze(recipe, network)
    with FakeTensorMode(allow_non_fake_inputs=True), device:
        _move(network, device)
        recompute_blocks(network, train.activation_checkpointing)
        precision = resolve_precision(train.mixed_precision, device, narrowest_width(network))
        num_samples = max(1, train.batch_size // (num_processes * train.gradient_accumulation))
        autocast = AUTOCAST.get(precision)
        if as_gpu and autocast is not None:
            autocast = torch.float16  # of the same size, and a CPU has no ways of its own for it
        num_parts = parts_of(train.shard, num_processes, train.shard_size)
        count = partial(_bytes_of, num_parts=num_parts)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # An average shares what is not trained with the network, unless both keep parts of their own of it.
        averaged = trained if num_parts == 1 else network.parameters()
        num_averages = 1 + len(recipe.ema.further_decays) + len(recipe.ema.sigma_rels)
        own = count(network.parameters()) + _bytes_of(network.buffers())
        kept = own, count(trained), _measure_state(network, recipe, num_parts), num_averages * count(averaged)
        if num_parts == 1:
            return StepMemory(*kept, *measure_passes(network, num_samples, autocast)), precision
        whole = train.gradient_accumulation > 1
        gathered = _gathered(network, 4 if autocast is None else 2, whole=whole)
        if autocast is not None:  # blocks are gathered in this type, and not cast
            for block in network.block_list():
                _move(block, device, autocast)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        activations, passes = measure_passes(network, num_samples, autocast)
        return StepMemory(*kept, activations, passes + count(trained), gathered), precision


def _measure_state(network: Network, recipe: Recipe, num_parts: int) -> int | None:
    """Return the bytes of an optimizer's state, of which a tensor of numbers of its own is not dealt; None: unknown."""
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimizer = create_optimizer(network, recipe.optim)
    try:
        optimizer.step()
    except DataDependentOutputException:
        return None
    finally:
        network.zero_grad()
    return _bytes_of(pytree.tree_leaves(list(optimizer.state.values())), num_parts)


def _gathered(network: Network, item_size: int, *, whole: bool) -> int:
    """Return the bytes of what is gathered, of blocks in numbers of a size, and of gradients that wait for an exchange.

    Args:
        network: with float32 weights.
        item_size: bytes of a number.
        whole: whether gradients of the whole network wait.
    """
    blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in network.block_list()]
    total = sum(parameter.numel() for parameter in network.parameters())
    waiting = total if whole else max(blocks)
    return 4 * (total - sum(blocks)) + 2 * item_size * max(blocks) + 4 * waiting


def _drop_gradient(parameter: Tensor) -> None:
    """Count no gradient twice: those that wait are `gathered`, and what a process keeps of them is counted apart."""
    parameter.grad = None


def measure_passes(network: Network, num_samples: int, autocast: torch.dtype | None = None) -> tuple[int, int]:
    """Make a forward and a backward pass, and return the bytes that are there between them and the most there were.

    Args:
        network: with real or fake tensors; it has gradients afterwards.
        num_samples: at a time.
        autocast: type of its products; None: its own.
    """
    arguments, device = network.arguments, next(network.parameters()).device
    x_t = torch.zeros(num_samples, arguments.in_channels, *arguments.input_size, device=device)
    t, y = torch.zeros(num_samples, device=device), torch.zeros(num_samples, dtype=torch.int64, device=device)
    conditions = {name: torch.zeros_like(t) for name in network.condition_names}
    known = (x_t, t, y, *conditions.values(), *network.parameters(), *network.buffers())
    with Allocations(known) as allocations:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            loss = network(x_t, t, y, **conditions).float().square().mean()
        between = allocations.now
        loss.backward()
    return between, allocations.peak


def _move(network: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Put new tensors, not initialised, in place of a network's, its parameters in another type if one is given."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            moved = torch.empty_like(parameter, device=device, dtype=dtype)
            module.register_parameter(name, nn.Parameter(moved, requires_grad=parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty_like(buffer, device=device))


def _bytes_of(tensors: Iterable[Any], num_parts: int = 1) -> int:
    """Return the bytes of tensors, or of the largest of so many parts of each."""
    return sum(_bytes_of_part(tensor, num_parts) for tensor in tensors if isinstance(tensor, Tensor))


def _bytes_of_part(tensor: Tensor, num_parts: int) -> int:
    return -(-len(tensor) // num_parts) * (tensor.nbytes // len(tensor)) if tensor.ndim else tensor.nbytes


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors, real or fake, that are made while the block runs, until they are freed.

    Args:
        known: tensors that were there before and are not counted.

    Attributes:
        now: their bytes.
        peak: the most there were at a time.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: Any,
        inputs: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute, and count what came out."""
        outputs = operation(*inputs, **named or {})
        for output in pytree.tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._add(output.untyped_storage())
        return outputs

    def _add(self, storage: Any) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.now += (num_bytes := storage.nbytes())
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, num_bytes)

    def _remove(self, num_bytes: int) -> None:
        self.now -= num_bytes

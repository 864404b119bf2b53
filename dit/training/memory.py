"""Memory of a training step, from a step that is made without memory: its tensors have shapes and no numbers.

What is counted is what torch asks for. A process takes more besides: the program itself, what the allocator holds in
reserve, the kernels' own working memory.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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

    @property
    def peak(self) -> int:
        """The most that there is at a time."""
        return self.parameters + (self.optimizer or 0) + self.averages + max(self.passes, self.gradients)


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
        activations, passes = measure_passes(network, num_samples, autocast)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        num_bytes = _bytes_of(trained)
        optimizer = create_optimizer(network, recipe.optim)
        try:
            optimizer.step()
            state: int | None = _bytes_of(pytree.tree_leaves(list(optimizer.state.values())))
        except DataDependentOutputException:
            state = None
        num_averages = 1 + len(recipe.ema.further_decays) + len(recipe.ema.sigma_rels)
        own = _bytes_of((*network.parameters(), *network.buffers()))
        return StepMemory(own, num_bytes, state, num_averages * num_bytes, activations, passes), precision


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


def _move(network: Network, device: torch.device) -> None:
    """Put new tensors, not initialised, in place of a network's on the meta device."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            moved = torch.empty_like(parameter, device=device)
            module.register_parameter(name, nn.Parameter(moved, requires_grad=parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty_like(buffer, device=device))


def _bytes_of(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


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

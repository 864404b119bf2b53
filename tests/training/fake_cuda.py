"""A GPU without one: tensors that only say they are on cuda, and what of a step would make the host wait."""

import weakref
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dit.diffusion.create import create_process
from dit.latents.read_ahead import Rows
from dit.models import create_model
from dit.models.network import Network
from dit.rng import StepDraws
from dit.signals import StopSignals
from dit.training import step as step_module
from dit.training.batch import BatchSource, Share
from dit.training.objectives.create import create_objective
from dit.training.step import Stepper
from dit.training.weights.ema import Ema
from tests.training.fakes import FakeCodec, FakeLatents
from tests.training.on_device import processes_on

CUDA = torch.device("cuda", 0)


class Waits(TorchDispatchMode):
    """Collects the operations that wait for the device: copies out of memory that is not pinned, and to the host."""

    def __init__(self):
        super().__init__()
        self.found, self.num_copies, self.pinned = [], 0, weakref.WeakSet()

    def pin(self, tensor):
        """In place of Tensor.pin_memory, which has no fake."""
        copy = tensor.clone() if tensor.device.type == "cpu" else tensor
        self.pinned.add(copy.untyped_storage())
        return copy

    def __torch_dispatch__(self, operation, types, inputs=(), named=None):
        named = named or {}
        name = operation.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = inputs[-1] if name == "_to_copy" else inputs[1]
            target = inputs[0].device if name == "copy_" else torch.device(named.get("device") or source.device)
            is_fast = named.get("non_blocking", False) or (name == "copy_" and True in inputs[2:])
            if source.device.type != target.type:
                self.num_copies += 1
                if not is_fast or target.type == "cpu" or source.untyped_storage() not in self.pinned:
                    self.found.append(f"{name} {tuple(source.shape)} {source.device} -> {target}")
        elif name in ("_local_scalar_dense", "nonzero") and inputs[0].device.type == "cuda":
            self.found.append(name)
        return operation(*inputs, **named)


@contextmanager
def watched():
    """Collect the waits of what the block does with fake tensors; nothing goes backward, and nothing is drawn."""

    def backward(loss):
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)

    def nonzero(tensor):  # of times, which are on the host; how many there are is a number, which a fake has not
        assert tensor.device.type == "cpu"
        return torch.zeros(2, 1, dtype=torch.int64)

    parameters = []
    pending = SimpleNamespace
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        waits = stack.enter_context(Waits())
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: waits.pin(tensor)))
        stack.enter_context(patch.object(Tensor, "backward", backward))
        stack.enter_context(patch.object(Tensor, "nonzero", nonzero))
        stack.enter_context(patch.object(step_module, "Pending", lambda vector: pending(vector=vector)))
        stack.enter_context(
            patch.object(StepDraws, "_draw", lambda self, purpose, values, fill: values[: len(self.rows)])
        )
        waits.parameters = parameters
        yield waits


class OneRead(FakeLatents):
    """Latents that a reader has just laid down, pinned."""

    def __init__(self, waits, shape, num_classes):
        self.waits, self.latents_shape, self.num_classes = waits, shape, num_classes

    def __len__(self):
        return 48

    def read(self, requests, *, pin_memory):
        assert pin_memory
        for request in requests:
            num = len(request.indices)
            channels, *size = self.latents_shape
            rows = (torch.empty(num, 2 * channels, *size), torch.empty(num, dtype=torch.int64))
            moments, labels = (self.waits.pin(tensor) for tensor in rows)
            yield Rows(request, moments, labels)


def make_step(waits, recipe, *, num_micros=1):
    """Make the parts of a run on the device that is not there, and return the function that makes its step."""

    def create() -> Network:
        with torch.device(CUDA):
            return create_model(recipe.model.name, **recipe.model.overrides()).train()

    model = create()
    processes, process = processes_on(CUDA), create_process(recipe.process, model.null_class)
    with patch("copy.deepcopy", lambda *copied: create()):  # a copied fake is of a copied mode
        average = Ema(model, recipe.ema)
    with torch.device(CUDA), patch.object(torch.nn.Module, "to", lambda module, device: module):
        objective = create_objective(recipe.objective, process, model, average.network, processes, recipe.train)
    arguments = model.arguments
    shape = (arguments.in_channels, *arguments.input_size)
    source = BatchSource(
        dataset=OneRead(waits, shape, arguments.num_classes),
        codec=FakeCodec(),
        num_classes=arguments.num_classes,
        drop_probability=0.1,
        flip=False,
        seed=0,
        device=CUDA,
        share=Share(recipe.train.batch_size, num_micros=num_micros),
        num_uniforms=process.num_uniforms,
    )
    trained = [parameter for parameter in objective.trained.parameters() if parameter.requires_grad]
    waits.parameters += trained
    stepper = Stepper(
        objective=objective,
        source=source,
        optimizer=torch.optim.AdamW(trained, fused=True),
        processes=processes,
        signals=StopSignals(),
        num_buckets=4,
        max_grad_norm=1.0,
    )
    assert stepper.num_late == 1

    def step(number):
        assert stepper.attempt(number)
        average.update(number + 1)

    return step

"""Steps of the small run on any device, without Accelerate: what tests of a GPU do, which run on the CPU too."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from dit.signals import StopSignals
from dit.training.batch import BatchSource, Share
from dit.training.objectives.create import create_objective
from dit.training.step import Stepper
from dit.training.weights.ema import Ema
from tests.training.fakes import FakeCodec, make_parts, make_recipe


def processes_on(device, autocast=nullcontext):
    """One process, whose tensors are there."""
    return SimpleNamespace(
        accelerator=SimpleNamespace(scaler=None),
        device=device,
        rank=0,
        count=1,
        prepare=lambda network, **options: network,
        without_sync=lambda network, last: nullcontext(),
        autocast=autocast,
        sum=lambda vector: vector,
        sum_over_parts=lambda value: value,
        gather=lambda values: values,
    )


class SmallRun:
    """The small run: `step(n)` makes its step n, which is also taken into the average."""

    def __init__(self, device, *, autocast=nullcontext, num_late=None, **overrides):
        recipe, device = make_recipe(**overrides), torch.device(device)
        self.model, process, _, data, _ = make_parts(recipe)
        self.model.to(device).train()
        processes, self.autocast = processes_on(device, autocast), autocast
        self.average = Ema(self.model, recipe.ema)
        objective = create_objective(
            recipe.objective, process, self.model, self.average.network, processes, recipe.train
        )
        source = BatchSource(
            dataset=data,
            codec=FakeCodec(),
            num_classes=3,
            drop_probability=0.1,
            flip=False,
            seed=0,
            device=device,
            share=Share(recipe.train.batch_size),
            num_uniforms=process.num_uniforms,
        )
        trained = [parameter for parameter in objective.trained.parameters() if parameter.requires_grad]
        self.stepper = Stepper(
            objective=objective,
            source=source,
            optimizer=torch.optim.AdamW(trained, lr=1e-3, fused=True),
            processes=processes,
            signals=StopSignals(),
            num_buckets=4,
            max_grad_norm=1.0,
            num_late=num_late,
        )

    def step(self, number):
        """Make a step."""
        with self.autocast():
            self.stepper.attempt(number)
        self.average.update(number + 1)

    def losses(self, num_steps):
        """Make the first steps, and return the loss of each."""
        found = []
        for number in range(num_steps):
            self.step(number)
            found += [metrics.loss for metrics, _ in self.stepper.arrived()]
        return found + [metrics.loss for metrics, _ in self.stepper.arrived(all_of_them=True)]

"""The loss on held-out images, at noise and times that are the same in every validation of every run.

Sample i of the held-out split has its own latent draw, noise and time; the times are spread evenly over the time
law's quantiles, so that few samples cover all times.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dit.device import to_device
from dit.diffusion.process import Process
from dit.diffusion.timesteps import UniformLaw
from dit.errors import DitError
from dit.rng import Purpose, normal, uniform
from dit.training.batch import BatchSource
from dit.training.monitor.log import mean_by_bucket
from dit.training.monitor.step_totals import by_time
from dit.training.ranks.processes import Processes

if TYPE_CHECKING:
    from dit.latents.dataset import LatentDataset

SEED = 0
"""Not the run's seed: the same held-out samples get the same noise in every run, so that losses can be compared."""
NOISE, DRAW, TIME = range(3)
"""Streams of the purpose PROBE; those from TIME on are of all the uniform numbers that a loss takes."""


def with_fixed_times(process: Process) -> Process:
    """Return the process with uniform times if its own times change with what it learns, else itself."""
    if not process.time_law.state_dict():
        return process
    fixed = copy.copy(process)
    fixed.time_law = UniformLaw()
    return fixed


@dataclass(frozen=True)
class Validation:
    """Measures networks on the held-out split."""

    dataset: "LatentDataset"
    """Cached moments and labels of the held-out split."""
    source: BatchSource
    """What the network learns from: codec and classes."""
    process: Process
    """Makes losses."""
    processes: Processes
    """Who takes part; each measures its share of the samples."""
    num_samples: int
    """Samples of one validation."""
    num_buckets: int
    """Time buckets."""
    batch_size: int
    """Samples per network call."""
    fills_up: bool = False
    """Whether a last call takes as many, the last sample repeated: compiled blocks would be compiled anew for fewer."""

    @torch.no_grad()
    def measure(self, network: nn.Module) -> tuple[float, list[float | None]]:
        """Return the mean loss and the mean loss of each time bucket (None where it is empty).

        Raises:
            DitError: the loss is not finite.
        """
        rank, count = self.processes.rank, self.processes.count
        share = range(rank * self.num_samples // count, (rank + 1) * self.num_samples // count)
        sums = torch.zeros(2, self.num_buckets, dtype=torch.float32, device=self.processes.device)
        was_training = network.training
        network.eval()
        with self.processes.autocast():
            # Every process makes as many calls, for which it may have to gather weights; some are for no sample at all.
            for start in range(share.start, share.start + -(-self.num_samples // count), self.batch_size):
                sums += self._part(network, range(start, min(start + self.batch_size, share.stop)))
        network.train(was_training)
        losses, counts = self.processes.sum(sums).tolist()
        loss = sum(losses) / self.num_samples
        if loss - loss != 0:
            raise DitError(f"validation loss: expected a finite number, found {loss}; the weights are damaged")
        return loss, mean_by_bucket(losses, counts)

    def row(self, network: nn.Module, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Return the columns of metrics.jsonl: the loss of the network, by time, and of each average of its weights."""
        loss, loss_by_time = self.measure(network)
        of_averages = {name: self.measure(average)[0] for name, average in averages.items()}
        return {"val_loss": loss, "val_loss_by_time": loss_by_time, "val_loss_of_average": of_averages}

    def _part(self, network: nn.Module, wanted: range) -> Tensor:
        device, shape = self.processes.device, self.dataset.latents_shape
        num_more = self.batch_size - len(wanted) if self.fills_up else int(not wanted)
        positions = [*wanted, *[wanted[-1] if wanted else 0] * num_more]
        moments, labels = self.dataset.get(np.array(positions), np.zeros(len(positions), bool))
        draw = to_device(normal(SEED, Purpose.PROBE, positions, shape, step=DRAW), device)
        noise = to_device(normal(SEED, Purpose.PROBE, positions, shape, step=NOISE), device)
        x_0 = self.source.codec.latents_from_moments(to_device(moments, device), draw)
        y = labels if self.source.num_classes else torch.zeros_like(labels)
        bucket = torch.tensor(positions) % self.num_buckets
        u = (bucket + uniform(SEED, Purpose.PROBE, positions, step=TIME)) / self.num_buckets  # (B,)
        if (num := self.process.num_uniforms) > 1:
            further = [uniform(SEED, Purpose.PROBE, positions, step=TIME + k) for k in range(1, num)]
            u = torch.stack([u, *further], dim=1)  # (B, num)
        losses = self.process.losses(network, x_0, to_device(y, device), noise=noise, u=u)
        # Times are even here, so that only weights of the samples, which hide how large an error is, make a difference.
        losses = replace(losses, loss=losses.unweighted[: len(wanted)], t=losses.t[: len(wanted)])
        return torch.stack([value.float() for value in by_time(losses, self.num_buckets)])

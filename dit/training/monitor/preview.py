"""Pictures of how far a run is: the same start noise and classes every time, drawn with the averaged weights."""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dit.data.picture import image_grid
from dit.diffusion.process import Process
from dit.files import write_bytes
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from dit.training.batch import BatchSource
from dit.training.ranks.processes import Processes

MAX_COLUMNS = 10


@dataclass(frozen=True)
class Preview:
    """Draws grids of samples."""

    process: Process
    """The process that the network learns."""
    source: BatchSource
    """What it learns from: codec, classes and shape of the latents, and the seed, also that of the start noise."""
    sampling: SamplingConfig
    """Solver, steps and guidance."""
    num_samples: int
    """Images in a grid."""
    batch_size: int
    """Images that are drawn at a time; it does not change them."""
    processes: Processes
    """Device and precision; the process that calls `save` draws alone."""

    def draw(self, network: nn.Module) -> torch.Tensor:
        """Return the samples: (N, C, H, W) uint8 images.

        Raises:
            DitError: the network's outputs are not finite.
        """
        source, images = self.source, []
        for start in range(0, self.num_samples, self.batch_size):
            positions = range(start, min(start + self.batch_size, self.num_samples))
            y = torch.tensor(positions, device=self.processes.device) % max(1, source.num_classes)
            shape, options = source.dataset.latents_shape, {"seed": source.seed, "positions": positions}
            with self.processes.autocast():
                drawn = sample(network, self.process, y, shape, sampling=self.sampling, **options)
            images.append(source.codec.preview.decode(drawn.latents).cpu())
        return torch.cat(images)

    def save(self, network: nn.Module, path: Path) -> None:
        """Write a grid as PNG, a column per class where there are few."""
        num_classes = self.source.num_classes
        columns = num_classes if 1 < num_classes <= MAX_COLUMNS else 8
        picture = io.BytesIO()
        image_grid(self.draw(network), columns=columns).save(picture, format="PNG")
        write_bytes(path, picture.getvalue())

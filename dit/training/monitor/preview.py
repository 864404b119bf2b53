"""Pictures of how far a run is: the same start noise and classes every time, drawn with the averaged weights."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit.data.picture import image_grid
from dit.diffusion.process import Process
from dit.files import write_bytes
from dit.sampling.config import SamplingConfig
from dit.sampling.sample import sample
from dit.training.ranks.processes import Processes

if TYPE_CHECKING:
    from dit.latents.codec import Codec

MAX_COLUMNS = 10


@dataclass(frozen=True)
class Preview:
    """Draws grids of samples."""

    process: Process
    """The process that the network learns."""
    codec: "Codec"
    """Decodes latents."""
    sampling: SamplingConfig
    """Solver, steps and guidance."""
    num_classes: int
    """K; samples take the classes in turn."""
    shape: tuple[int, int, int]
    """Shape (C, H, W) of a latent."""
    num_samples: int
    """Images in a grid."""
    batch_size: int
    """Images that are drawn at a time; it does not change them."""
    seed: int
    """Seed of the start noise."""
    processes: Processes
    """Device and precision; the process that calls `save` draws alone."""

    def draw(self, network: nn.Module) -> torch.Tensor:
        """Return the samples: (N, C, H, W) uint8 images.

        Raises:
            DitError: the network's outputs are not finite.
        """
        images = []
        for start in range(0, self.num_samples, self.batch_size):
            positions = range(start, min(start + self.batch_size, self.num_samples))
            y = torch.tensor(
                [position % max(1, self.num_classes) for position in positions], device=self.processes.device
            )
            with self.processes.autocast():
                drawn = sample(
                    network, self.process, y, self.shape, sampling=self.sampling, seed=self.seed, positions=positions
                )
            images.append(self.codec.decode(drawn.latents).cpu())
        return torch.cat(images)

    def save(self, network: nn.Module, path: Path) -> None:
        """Write a grid as PNG, a column per class where there are few."""
        columns = self.num_classes if 1 < self.num_classes <= MAX_COLUMNS else 8
        picture = io.BytesIO()
        image_grid(self.draw(network), columns=columns).save(picture, format="PNG")
        write_bytes(path, picture.getvalue())

"""What a training run takes on GPUs that are not here, in data-parallel processes of one GPU each. Free of torch.

A step of B images makes 6 MAC B operations: a multiply-accumulate is two, and the backward pass takes twice the forward
pass. Every process sends 2 (n - 1) / n of the bytes of its gradients, which a ring sums over n processes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, by its data sheet."""

    operations: float
    """Of bfloat16 products a second, without sparsity."""
    memory: float
    """Bytes."""


GPUS = {
    "a100": Gpu(312e12, 80e9),
    "h100": Gpu(989e12, 80e9),
    "h200": Gpu(989e12, 141e9),
    "b200": Gpu(2250e12, 180e9),
}


@dataclass(frozen=True)
class Plan:
    """A run."""

    macs: int
    """Multiply-accumulates of a network call of one image."""
    num_images: float
    """Images that are trained on, repetitions counted."""
    num_gpus: int
    """One a process."""
    gpu: Gpu
    """Their kind."""
    utilisation: float
    """Share of the data sheet's operations that the network's own make."""

    @property
    def operations(self) -> float:
        """Of the whole run, those that are computed again not counted."""
        return 6.0 * self.macs * self.num_images

    @property
    def images_per_second(self) -> float:
        """Over all processes."""
        return self.num_images / self.seconds

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.operations / (self.num_gpus * self.gpu.operations * self.utilisation)

    def bytes_sent(self, gradients: int) -> float:
        """Return what a process sends in a step, of gradients of so many bytes."""
        return 2 * (self.num_gpus - 1) / self.num_gpus * gradients


def read_count(text: str) -> float:
    """Read a number such as 1281167, 400M or 1.2B, thousands, millions and thousands of millions: K, M, B.

    Raises:
        ValueError: it is none.
    """
    suffixes = {"k": 1e3, "m": 1e6, "b": 1e9}
    last = text[-1:].lower()
    return float(text[:-1]) * suffixes[last] if last in suffixes else float(text)

"""What a training run takes on GPUs that are not here, in data-parallel processes of one GPU each. Free of torch.

A step of B images makes 6 MAC B operations: a multiply-accumulate is two, and the backward pass takes twice the forward
pass. Every process sends 2 (n - 1) / n of the bytes of its gradients, which a ring sums over n processes. Where the
weights are dealt to p of them it sends (p - 1) / p of the gradients, and twice of the weights in bfloat16, which are
gathered for each pass; and 2 (m - 1) / m of its part of the gradients, for there are m = n / p groups.
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
    num_parts: int = 1
    """Parts of the weights, which as many processes hold; 1: each has all."""

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
        """Return what a process sends in a step, of float32 gradients of so many bytes in all."""
        parts, groups = self.num_parts, self.num_gpus // self.num_parts
        of_weights = 2 * (parts - 1) / parts * gradients / 2  # twice, in two bytes
        return of_weights + (parts - 1) / parts * gradients + 2 * (groups - 1) / groups * gradients / parts


def read_count(text: str) -> float:
    """Read a number such as 1281167, 400M or 1.2B, thousands, millions and thousands of millions: K, M, B.

    Raises:
        ValueError: it is none.
    """
    suffixes = {"k": 1e3, "m": 1e6, "b": 1e9}
    last = text[-1:].lower()
    return float(text[:-1]) * suffixes[last] if last in suffixes else float(text)

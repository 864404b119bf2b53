"""Images as a data set to train on: worker processes read ahead, and a batch is encoded when it is needed.

It answers what `LatentDataset` answers, without a cache. Moments differ in the last bits alone from cached ones, for
an image is encoded beside others.

B samples of a batch; M moments of h x w positions.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice

import numpy as np
import torch

from dit.data.request import Request
from dit.data.workers import ImageBatch, ImageReader
from dit.errors import ConfigError, DitError
from dit.latents.encode_batch import encode_pixels
from dit.latents.plan import Plan
from dit.latents.read_ahead import NUM_AHEAD, Rows


class ImageDataset:
    """The images of a plan.

    Args:
        plan: images, autoencoder, workers and batch size.
        keep_images: whether answers hold the images too.

    Raises:
        ConfigError: images are to be cut at random places, and their source cuts them itself.
    """

    def __init__(self, plan: Plan, *, keep_images: bool = False) -> None:
        self._plan, self._keep_images, images = plan, keep_images, plan.images
        self.class_names, self.fingerprint = images.class_names, plan.identity.fingerprint
        self.images_fingerprint, self.skipped = images.fingerprint, ()
        self.num_classes = len(self.class_names)  # 0 for images without labels
        self.latents_shape = plan.latents_shape  # C, h, w
        self.labels: np.ndarray = images.labels.astype(np.int64)
        if plan.data.crop == "random" and images.read_at is None:
            raise ConfigError(
                f"data.crop: expected centre, since data.source {plan.data.source!r} cuts its images itself, found "
                "random"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> np.ndarray:
        """(N,) number of each sample among the images."""
        return np.arange(len(self.labels))

    @property
    def part_sizes(self) -> np.ndarray:
        """(P,) number of samples in each part of a cache of them."""
        return np.array([len(part) for part in self._plan.parts])

    def read(self, requests: Iterable[Request], *, pin_memory: bool = False) -> Generator[Rows]:
        """Answer requests in order, with moments on the autoencoder's device, until the generator is closed.

        Raises:
            DitError: an image can't be read, or a worker process died at it; when its batch is asked for.
        """
        size, begun = self._plan.latents.batch_size, deque[Request]()
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return

        def parts() -> Iterator[Request]:
            for request in chain([first], requests):
                begun.append(request)
                yield from request.split(size)

        num_ahead = NUM_AHEAD * _num_parts(first, size)
        with ImageReader(self._plan.images, self._plan.data.num_workers, num_ahead) as reader:
            batches = reader.read(parts())
            for batch in batches:
                request = begun.popleft()
                rest = islice(batches, _num_parts(request, size) - 1)
                yield self._answer(request, chain([batch], rest), pin_memory=pin_memory)

    def _answer(self, request: Request, batches: Iterable[ImageBatch], *, pin_memory: bool) -> Rows:
        """Encode the images of a request; moments that are not finite show in the loss."""
        moments, images = [], []
        for batch in batches:
            if batch.problems:
                raise DitError(batch.problems[0])
            pixels = batch.pixels.pin_memory() if pin_memory else batch.pixels
            pixels = pixels.to(self._plan.codec.device, non_blocking=True)
            moments.append(encode_pixels(pixels, self._plan)[:, 0])
            if self._keep_images:
                images.append(pixels.permute(0, 3, 1, 2))
        labels = torch.from_numpy(self.labels[request.indices])
        return Rows(request, torch.cat(moments), labels, torch.cat(images) if images else None)


def _num_parts(request: Request, size: int) -> int:
    return -(-len(request.indices) // size)

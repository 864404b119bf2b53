"""Images to moments; for a cache always as many at a time: arithmetic differs in the last bits between batch sizes.

B images of H x W pixels in V views; M moments of h x w positions.
"""

import torch
from torch import Tensor

from dit.data.workers import ImageBatch
from dit.errors import DitError
from dit.latents.plan import Plan


@torch.no_grad()
def encode_pixels(pixels: Tensor, plan: Plan, *, mirrored: bool = False) -> Tensor:
    """Encode images in one call of the autoencoder.

    Args:
        pixels: (B, H, W, channels) uint8.
        plan: autoencoder and precision.
        mirrored: whether to encode the mirror images too, as a second view.

    Returns:
        (B, V, M, h, w) float32 on the device of the autoencoder.
    """
    # (B, channels, H, W) with the channels of a pixel side by side, as convolutions want them
    images = pixels.to(plan.codec.device).permute(0, 3, 1, 2)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=plan.latents.precision == "bfloat16"):
        views = [plan.codec.encode(images)]
        if mirrored:
            views.append(plan.codec.encode(images.flip(-1)))
    return torch.stack(views, dim=1)


def encode_batch(batch: ImageBatch, plan: Plan) -> Tensor:
    """Encode images for the cache, filled up to latents.batch_size, with their mirror images where the plan has these.

    Returns:
        (B, V, M, h, w) in the type of storage, on the CPU.

    Raises:
        DitError: there is NaN or infinity; names the image.
    """
    padding = batch.pixels.new_zeros(plan.latents.batch_size - len(batch.pixels), *batch.pixels.shape[1:])
    moments = encode_pixels(torch.cat([batch.pixels, padding]), plan, mirrored=plan.identity.flip)
    moments = moments[: len(batch.pixels)].to("cpu", plan.storage)
    if not moments.isfinite().all():
        bad = batch.rows[int((~moments.isfinite().flatten(1).all(dim=1)).nonzero()[0])]
        raise DitError(
            f"{plan.images.name(bad)}: expected finite latents, found NaN or infinity, encoded in "
            f"{plan.latents.precision} and stored in {plan.latents.storage}; look at the image and latents.vae"
        )
    return moments

"""Train the small autoencoder of the embedded default (`dit/assets/vae/mnist`): 32x32x1 images, 8x8x4 latents.

    python tools/train_vae.py --out dit/assets/vae/mnist

A diffusers AutoencoderKL is trained on the 4,000 training digits of `dit.data.mnist`; the held-out 1,000 only measure
it. The loss is mean squared error per pixel (range -1..1) plus `--kl-weight` times the KL divergence to N(0, 1) per
latent number: the Gaussian observation model of standard deviation sigma gives kl_weight = 2 sigma^2 * 256/1024.
In the end each latent channel's mean and standard deviation over the training set are folded into `quant_conv` and
`post_quant_conv`, so that latents have mean 0 and variance 1 and `scaling_factor` is 1. The README.md of the shipped
folder states the command and the figures that are printed here.

    python tools/train_vae.py --both-colours dit/assets/vae/mnist --epochs 12 --out vae

goes on from that autoencoder with every other digit inverted, which it can't draw. The latents of the others stay, by a
term for their distance to what they were: models of those latents can be used and trained further.
"""

import argparse
import copy
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dit.data.mnist import mnist_images
from dit.files import new_folder
from dit.zoo.layouts.diffusers_autoencoder import fold_normalisation

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

ARCHITECTURE = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 48),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 32,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}

KEEP_WEIGHT = 0.1


def main(arguments: list[str] | None = None) -> int:
    """Train, measure, normalise and write the autoencoder."""
    options = _parse(arguments)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    begun = options.both_colours
    vae = AutoencoderKL(**ARCHITECTURE) if begun is None else AutoencoderKL.from_pretrained(begun)
    vae = vae.to(memory_format=torch.channels_last)
    train_images, held_out_images = (_to_tensor(mnist_images(split)[0]) for split in ("train", "val"))
    _train(vae, train_images, options)
    vae = vae.eval().to(memory_format=torch.contiguous_format)
    if begun is None:
        statistics = _fold_statistics(vae, train_images)
        figures = _measure(vae, held_out_images) | statistics
    else:
        figures = _measure(vae, held_out_images)
        figures |= {f"inverted_{name}": value for name, value in _measure(vae, -held_out_images).items()}
    print(f"torch {torch.__version__}, {sum(parameter.numel() for parameter in vae.parameters()):,} parameters")
    for name, value in figures.items():
        print(f"{name}: {value}")
    with new_folder(options.out) as folder:
        vae.save_pretrained(folder)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the diffusers AutoencoderKL")
    parser.add_argument("--both-colours", type=Path, metavar="FOLDER", help="go on from this autoencoder, see above")
    parser.add_argument("--epochs", type=int, default=24, help="passes over the 4,000 training digits")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of Adam (cosine decay to 0)")
    parser.add_argument("--kl-weight", type=float, default=3e-4, help="weight of the KL divergence per latent number")
    parser.add_argument("--max-shift", type=int, default=2, help="digits are moved at random by up to so many pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order, shifts and latent noise")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; the weights depend on it slightly")
    return parser.parse_args(arguments)


def _to_tensor(images: np.ndarray) -> Tensor:
    """Scale (N, H, W) uint8 images to (N, 1, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images)[:, None].float() / 127.5 - 1


def _train(vae: "AutoencoderKL", images: Tensor, options: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(options.seed)
    teacher = None if options.both_colours is None else copy.deepcopy(vae).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=options.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    batches_per_epoch = len(images) // options.batch_size
    num_steps = options.epochs * batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, num_steps))
    with tqdm(total=num_steps, unit="step", disable=None) as bar:
        for epoch in range(options.epochs):
            order = torch.randperm(len(images), generator=generator)
            for batch in order[: batches_per_epoch * options.batch_size].view(batches_per_epoch, -1):
                x = _shift(images[batch], options.max_shift, generator)  # (B, 1, 32, 32)
                if teacher is not None:
                    x[::2] *= -1
                mse, kl, moved = _losses(vae, x, generator, teacher)
                optimizer.zero_grad()
                (mse + options.kl_weight * kl + KEEP_WEIGHT * moved).backward()
                torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.set_postfix(mse=f"{mse.item():.5f}", kl=f"{kl.item():.3f}", refresh=False)
                bar.update()
            print(f"epoch {epoch + 1}/{options.epochs}: mse {mse.item():.5f}, kl {kl.item():.3f}", file=sys.stderr)


def _learning_rate(step: int, num_steps: int) -> float:
    """Warm up over 2% of the steps, then decay to 0 along a cosine."""
    warmup = max(1, num_steps // 50)
    return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / num_steps)))


def _shift(x: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Move each image by its own random whole number of pixels; the border of two black pixels goes around."""
    moves = torch.randint(-max_shift, max_shift + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack([image.roll(move, dims=(1, 2)) for image, move in zip(x, moves, strict=True)])


def _losses(
    vae: "AutoencoderKL", x: Tensor, generator: torch.Generator, teacher: "AutoencoderKL | None"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean squared error per pixel, and KL divergence and squared distance to a teacher per latent number.

    The teacher sees every other image, from the second on.
    """
    posterior = vae.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    reconstruction = vae.decode(posterior.mean + posterior.std * noise).sample
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    moved = torch.zeros(())
    if teacher is not None:
        moved = (posterior.mean[1::2] - teacher.encode(x[1::2]).latent_dist.mean).square().mean()
    return (reconstruction - x).square().mean(), kl, moved


@torch.inference_mode()
def _fold_statistics(vae: "AutoencoderKL", images: Tensor) -> dict[str, list[float]]:
    """Fold mean and standard deviation of each channel of drawn latents into the 1x1 convolutions around them."""
    moments = torch.cat([vae.encode(batch).latent_dist.parameters for batch in images.split(250)])
    mean, log_var = moments.double().chunk(2, dim=1)  # (N, 4, 8, 8) each
    shift = mean.mean((0, 2, 3))
    # The variance of a draw is the variance of its mean and the mean of its variance.
    scale = (mean.var((0, 2, 3), correction=0) + log_var.exp().mean((0, 2, 3))).sqrt()
    vae.load_state_dict(fold_normalisation(vae.state_dict(), 1 / scale, shift))
    posterior_std = (log_var.exp().mean((0, 2, 3)).sqrt() / scale).tolist()
    return {"channel_mean_before": shift.tolist(), "channel_std_before": scale.tolist(), "noise_share": posterior_std}


@torch.inference_mode()
def _measure(vae: "AutoencoderKL", images: Tensor) -> dict[str, float]:
    """Measure reconstruction of held-out images from the posterior mean and from a draw (pixel range 0..1)."""
    generator = torch.Generator().manual_seed(0)
    figures = {}
    posteriors = [vae.encode(batch).latent_dist for batch in images.split(250)]
    for name, share in (("mean", 0.0), ("draw", 1.0)):
        draws = [p.mean + share * p.std * torch.randn(p.mean.shape, generator=generator) for p in posteriors]
        reconstructions = torch.cat([vae.decode(z).sample.clamp(-1, 1) for z in draws])
        mse = ((reconstructions - images) / 2).square().mean().item()
        figures |= {f"mse_from_{name}": mse, f"psnr_from_{name}": -10 * math.log10(mse)}
    return figures


if __name__ == "__main__":
    sys.exit(main())

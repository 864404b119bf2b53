"""Train the small MNIST classifier whose features the embedded evaluation uses; needs `pip install dit-zoo[mnist]`.

    OMP_NUM_THREADS=1 python tools/train_classifier.py

Writes model.safetensors and config.json to dit/assets/classifier/mnist, whose README.md states the command and the
figures. It sees the 4,000 images of the training split alone; the 1,000 held-out ones are used once, at the end. About
five minutes on one CPU core.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from dit.data.mnist import CLASS_NAMES, IMAGE_SIZE, mnist_images
from dit.errors import DitError
from dit.evaluation.classifier import SmallClassifier, pixels_to_unit
from dit.evaluation.metrics.frechet import frechet_distance
from dit.evaluation.moments import Moments
from dit.files import sha256, write_bytes, write_json
from dit.latents.codec import load_codec

OUTPUT = Path(__file__).parents[1] / "dit" / "assets" / "classifier" / "mnist"


def main() -> None:
    """Train, measure and write the weights with their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    arguments = parser.parse_args()

    images, labels = load_split("train")
    torch.manual_seed(arguments.seed)
    model = SmallClassifier(num_classes=len(CLASS_NAMES))
    train(model, images, labels, epochs=arguments.epochs, batch_size=arguments.batch_size, lr=arguments.lr)
    held_out, held_out_labels = load_split("val")
    decoded = reconstruct(held_out)
    figures = {
        "accuracy_train": accuracy(model, images, labels),
        "accuracy_held_out": accuracy(model, held_out, held_out_labels),
        "accuracy_reconstructed": accuracy(model, decoded, held_out_labels),
        "floor": distance(model, images, held_out),
        "distance_reconstructed": distance(model, decoded, held_out),
    }
    training = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "lr": arguments.lr}
    save_folder(arguments.out, model, figures, {**training, "seed": arguments.seed})
    print(figures)


def load_split(split: str) -> tuple[Tensor, Tensor]:
    """Read one split of MNIST: images uint8 (N, 1, 32, 32) and labels int64 (N,)."""
    images, labels = mnist_images(split)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)


def train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, batch_size: int, lr: float) -> None:
    """Minimise cross-entropy on augmented images with AdamW and a one-cycle learning rate."""
    num_batches = len(images) // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * num_batches)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images))[: num_batches * batch_size].view(num_batches, batch_size)
        progress = tqdm(order, desc=f"epoch {epoch + 1}/{epochs}", unit="batch", leave=epoch == epochs - 1)
        for batch in progress:
            _, logits = model(augment(pixels_to_unit(images[batch])))
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss.item():.4f}")
    model.eval()


def augment(x: Tensor) -> Tensor:
    """Move images (B, 1, H, W) a little; soften and add noise to some, as a VAE's decoder does."""
    num = len(x)
    angle = torch.empty(num).uniform_(-12, 12) * math.pi / 180
    scale = torch.empty(num, 2).uniform_(0.9, 1.1)
    shear = torch.empty(num).uniform_(-0.15, 0.15)
    shift = torch.empty(num, 2).uniform_(-2.5, 2.5) * 2 / x.shape[-1]
    rows = [
        torch.stack([angle.cos() * scale[:, 0], -angle.sin() + shear, shift[:, 0]], dim=1),
        torch.stack([angle.sin(), angle.cos() * scale[:, 1], shift[:, 1]], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    x = nn.functional.grid_sample(x + 1, grid, align_corners=False) - 1  # what comes in from outside is black
    soft = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), value=-1.0), 3, stride=1)
    strength = torch.rand(num, 1, 1, 1) * (torch.rand(num, 1, 1, 1) < 0.3)
    x = torch.lerp(x, soft, strength)
    noise = torch.rand(num, 1, 1, 1) * 0.1 * (torch.rand(num, 1, 1, 1) < 0.3)
    return (x + noise * torch.randn_like(x)).clamp(-1, 1)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images uint8 (N, 1, 32, 32) that are classified as their label (N,)."""
    logits = torch.cat([model(pixels_to_unit(batch))[1] for batch in images.split(250)])
    return (logits.argmax(dim=1) == labels).double().mean().item()


@torch.inference_mode()
def distance(model: SmallClassifier, one: Tensor, other: Tensor) -> float:
    """Return the Frechet distance between two sets of images uint8 (N, 1, 32, 32) in the model's features."""
    statistics = []
    for images in (one, other):
        moments = Moments(model.config["num_features"])
        for batch in images.split(250):
            moments.update(model(pixels_to_unit(batch))[0])
        statistics += [moments.mean, moments.covariance]
    return frechet_distance(*statistics)


@torch.inference_mode()
def reconstruct(images: Tensor) -> Tensor:
    """Encode and decode images uint8 (N, 1, 32, 32) with the embedded VAE, taking the posterior's mean."""
    codec = load_codec("mnist")
    batches = []
    for batch in images.split(250):
        moments = codec.encode(pixels_to_unit(batch))  # (B, 2C, h, w)
        noise = torch.zeros_like(moments[:, : codec.latent_channels])
        batches.append(codec.decode(codec.latents_from_moments(moments, noise)))
    return torch.cat(batches)


def save_folder(folder: Path, model: SmallClassifier, figures: dict, training: dict) -> None:
    """Write the weights and what is needed to rebuild the network."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state, metadata={"format": "pt"}))
    config = {
        "model": model.config,
        "image_size": IMAGE_SIZE,
        "class_names": list(CLASS_NAMES),
        "figures": figures,
        "training": training,
    }
    write_json(folder / "config.json", config)
    size = (folder / "model.safetensors").stat().st_size
    if size > 1_000_000:
        raise DitError(f"{folder / 'model.safetensors'}: expected at most 1 MB, found {size} bytes; make it narrower")
    print(f"{size:,} bytes, sha256 {sha256(folder / 'model.safetensors')}")


if __name__ == "__main__":
    main()

"""A run small enough for tests: a tiny network, 48 made-up latents, a codec without an autoencoder."""

import hashlib
import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from dit.config import check_recipe
from dit.data.config import DataConfig
from dit.data.image_source import images_in_memory
from dit.diffusion.create import create_process
from dit.evaluation.extractors import FeatureExtractor
from dit.latents.config import LatentsDescription
from dit.latents.read_ahead import read_ahead
from dit.models.registry import create_model

MODEL = {"name": "dit_ti_2", "hidden_size": 24, "depth": 2, "num_heads": 2, "num_classes": 3, "input_size": [4, 4]}
RECIPE = {
    "model": {**MODEL, "in_channels": 2, "learn_sigma": False},
    "process": {"name": "flow"},
    "train": {
        "max_steps": 6,
        "batch_size": 8,
        "log_every": 1,
        "checkpoint_every": 3,
        "validate_every": 0,
        "preview_every": 0,
        "preview_samples": 6,
        "validation_samples": 12,
        "validation_buckets": 4,
        "trackers": [],
    },
    "optim": {"lr": 1e-2, "warmup_steps": 2, "schedule": "cosine", "max_grad_norm": 1.0},
    "ema": {"decay": 0.9},
    "sampling": {"solver": "euler", "steps": 2},
}


class FakeLatents:
    """Moments drawn from a seed; class k is shifted by k."""

    latents_shape, moments_shape, storage = (2, 4, 4), (4, 4, 4), torch.float32
    num_classes = 3
    class_names = ("zero", "one", "two")

    def __init__(self, num_samples=48, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.labels = np.arange(num_samples) % 3
        mean = torch.randn(num_samples, 2, 4, 4, generator=draw) + torch.from_numpy(self.labels).view(-1, 1, 1, 1)
        self.moments = torch.cat([mean, torch.full_like(mean, -4.0)], dim=1)
        self.fingerprint = hashlib.sha256(self.moments.numpy().tobytes()).hexdigest()

    def __len__(self):
        return len(self.labels)

    def get(self, indices, flips):
        moments = self.moments[torch.from_numpy(np.asarray(indices))]
        flipped = torch.from_numpy(np.asarray(flips)).view(-1, 1, 1, 1)
        return torch.where(flipped, moments.flip(-1), moments), torch.from_numpy(self.labels[indices])

    def fill(self, moments, labels, indices, flips):
        for values, found in zip((moments, labels), self.get(indices, flips), strict=True):
            values.copy_(found)

    def check(self, moments, indices):
        pass

    def read(self, requests, *, pin_memory=False):
        with closing(read_ahead(self, requests, pin_memory=pin_memory)) as answers:
            for rows in answers:
                images = (64 * rows.moments[:, :1] + 128).clamp(0, 255).to(torch.uint8)
                yield replace(rows, images=images.expand(-1, 3, -1, -1))


class FakeCodec:
    """Latents are the moments' draw; images are their first channel."""

    is_gaussian = True

    @property
    def preview(self):
        return self

    def to(self, device):
        return self

    def save(self, folder):
        pass

    def describe(self):
        shared = {"fingerprint": None, "class_name": "Fake", "image_channels": 1, "latent_channels": 2, "downscale": 1}
        return LatentsDescription(vae="fake", revision=None, scale=(1.0, 1.0), shift=(0.0, 0.0), **shared)

    def latents_from_moments(self, moments, noise):
        mean, log_var = moments.chunk(2, dim=1)
        return mean + (log_var / 2).exp() * noise

    def decode(self, latents):
        return (127.5 * latents[:, :1] + 128).clamp(0, 255).to(torch.uint8)


def make_extractor(name="pixels", device=None):
    """Means of the four quarters of an image, and which of three grey levels it is nearest to."""

    def network(images):
        features = torch.nn.functional.avg_pool2d(images.float(), 2).flatten(1)
        levels = torch.tensor([128.0, 192.0, 255.0])
        return features, -(features.mean(1, keepdim=True) - levels).abs()

    return FeatureExtractor(name, 4, network, "0" * 64, torch.device("cpu"), FakeLatents.class_names)


def make_held_out(config=None, split="val", *, channels=1):
    """Thirty images of the codec's."""
    moments = FakeLatents(30, seed=1).moments[:, :1]
    images = (127.5 * moments + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    source = images_in_memory(images[..., 0], np.arange(30) % 3, FakeLatents.class_names, DataConfig(image_size=8))
    return replace(source, read=lambda index: images[index])


def make_recipe(**overrides):
    """The small recipe, with dotted fields replaced: make_recipe(**{"train.max_steps": 2})."""
    data = json.loads(json.dumps(RECIPE))
    for key, value in overrides.items():
        section, field = key.split(".", 1)
        data.setdefault(section, {})[field] = value
    return check_recipe(data)


def make_parts(recipe, num_samples=48):
    """Network, process, codec, training and held-out latents of a recipe."""
    torch.manual_seed(recipe.train.seed)
    model = create_model(recipe.model.name, **recipe.model.overrides())
    # The final layers start at zero, which would hide most of the network from a comparison.
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    process = create_process(recipe.process, model.null_class)
    return model, process, FakeCodec(), FakeLatents(num_samples), FakeLatents(12, seed=1)

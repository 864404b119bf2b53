"""The images and random weights of the golden networks, drawn as goldens/evaluation.json says."""

import hashlib

import numpy as np
import torch

from tests.evaluation.metrics.pairs import FIGURES


def golden_images(number):
    """Image set 0 or 1: uint8 (2, 3, H, W)."""
    about = FIGURES["inception_random_weights"]["images"][str(number)]
    rng, (num, height, width, _) = np.random.RandomState(about["seed"]), about["shape"]
    coarse = rng.randint(0, 256, (num, 7, 6, 3))
    images = coarse[:, np.arange(height) * 7 // height][:, :, np.arange(width) * 6 // width]
    images = (images + rng.randint(-24, 25, (num, height, width, 3))).clip(0, 255).astype(np.uint8)
    assert hashlib.sha256(images.tobytes()).hexdigest() == about["sha256"]
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def inception_state(shapes):
    """Random weights for shapes by name."""
    rng, state = np.random.RandomState(FIGURES["inception_random_weights"]["weights_seed"]), {}
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        z = rng.standard_normal(shapes[name])
        if name.endswith("conv.weight"):
            z *= np.sqrt(2 / np.prod(shapes[name][1:]))
        elif name.endswith("bn.weight"):
            z = 1 + 0.1 * z
        elif name.endswith("running_var"):
            z = np.exp(0.2 * z)
        else:
            z *= {"fc.weight": 0.15, "fc.bias": 0.5}.get(name, 0.1)
        state[name] = torch.from_numpy(z).float()
    return state


def dinov2_state(shapes):
    """Random weights for shapes by name, `mask_token` among them."""
    rng, state = np.random.RandomState(FIGURES["dinov2_tiny"]["weights_seed"]), {}
    for name in sorted(shapes):
        z = rng.standard_normal(shapes[name])
        if name == "pos_embed":
            z = 0.05 * z.cumsum(axis=1)
        elif name.endswith("gamma") or (name.rpartition(".")[0].split(".")[-1].startswith("norm") and "weight" in name):
            z = 1 + 0.1 * z
        elif name.endswith("bias") or name in ("cls_token", "mask_token"):
            z = 0.1 * z
        else:
            z *= np.sqrt(1 / np.prod(shapes[name][1:]))
        state[name] = torch.from_numpy(z).float()
    return state

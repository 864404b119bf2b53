"""An autoencoder for DiTPipeline, which knows one number between the network's latents and the decoder's.

Ours are normalised per channel, latents = (z - shift) * scale. Where that is one scale and no shift, the pipeline's
`scaling_factor` says it; anything else is folded exactly into the 1x1 convolutions on both sides of the latent space.

C latent channels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dit.files import read_json, write_json
from dit.latents.autoencoder import CONFIG_NAME, WEIGHTS_NAME
from dit.latents.codec import Codec
from dit.latents.kl import KLAutoencoder
from dit.zoo.folder.weights import save_tensors

NO_PLACE = (
    "its latents are divided by one number, and this model's are normalised per channel or shifted, by an autoencoder "
    "without post_quant_conv and quant_conv to fold that into"
)


def is_one_scale(codec: Codec) -> bool:
    """Tell whether latents are z times one number."""
    return bool((codec.scale == codec.scale.flatten()[0]).all() and not codec.shift.any())


def can_fold(codec: Codec) -> bool:
    """Tell whether an autoencoder can be written with one number for its latents."""
    has_convolutions = {"quant_conv.bias", "post_quant_conv.bias"} <= codec.autoencoder.state_dict().keys()
    return is_one_scale(codec) or (isinstance(codec.autoencoder, KLAutoencoder) and has_convolutions)


def write_autoencoder(codec: Codec, folder: Path) -> None:
    """Write an autoencoder that `can_fold` so that a division by `scaling_factor` is all that its latents need."""
    scale, shift = codec.scale.flatten().cpu(), codec.shift.flatten().cpu()  # (C,) each
    codec.folder.copy(folder)
    factor = float(scale[0])
    if not is_one_scale(codec):
        assert can_fold(codec)
        state = codec.autoencoder.state_dict()
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        save_tensors(fold_normalisation(state, scale, shift), folder / WEIGHTS_NAME)
        factor = 1.0
    config = read_json(folder / CONFIG_NAME)
    config |= {"scaling_factor": factor, "shift_factor": None, "latents_mean": None, "latents_std": None}
    write_json(folder / CONFIG_NAME, config)


def fold_normalisation(state: Mapping[str, Tensor], scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Put latents = (z - shift) * scale into an autoencoder's own 1x1 convolutions, in float64.

    With P the decoder's convolution, P(latents / scale + shift) = (P_w / scale) latents + P_w shift + P_b. That of the
    encoder gives mean and log-variance: the mean is shifted and scaled, the log-variance grows by 2 log(scale).

    Args:
        state: of a `KLAutoencoder` with `quant_conv` and `post_quant_conv`.
        scale: (C,).
        shift: (C,).
    """
    scale, shift = scale.double(), shift.double()
    weight = state["post_quant_conv.weight"].double()  # (C, C, 1, 1)
    bias = state["post_quant_conv.bias"].double() + (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    mean, log_var = state["quant_conv.bias"].double().chunk(2)
    mean_weight, log_var_weight = state["quant_conv.weight"].double().chunk(2)  # (C, 2C, 1, 1) each
    folded = {
        "post_quant_conv.bias": bias,
        "post_quant_conv.weight": weight / scale[:, None, None],
        "quant_conv.bias": torch.cat([(mean - shift) * scale, log_var + 2 * scale.log()]),
        "quant_conv.weight": torch.cat([mean_weight * scale[:, None, None, None], log_var_weight]),
    }
    return dict(state) | {name: tensor.to(state[name].dtype) for name, tensor in folded.items()}

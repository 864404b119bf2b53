"""An autoencoder for DiTPipeline, which knows one number between the network's latents and the decoder's.

Ours are normalised per channel, latents = (z - shift) * scale. Where that is one scale and no shift, the pipeline's
`scaling_factor` says it; anything else is folded exactly into the 1x1 convolutions on both sides of the latent space.

C latent channels.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit.errors import ConfigError
from dit.files import read_json, write_json
from dit.latents.codec import Codec


def write_vae(codec: Codec, folder: Path) -> None:
    """Write the autoencoder so that a division by `scaling_factor` is all that its latents need.

    Raises:
        ConfigError: that is not possible for this autoencoder.
    """
    scale, shift = codec.scale.flatten().cpu(), codec.shift.flatten().cpu()  # (C,) each
    vae = codec.vae
    if (scale == scale[0]).all() and not shift.any():
        vae.save_pretrained(folder)
        factor = float(scale[0])
    else:
        if getattr(vae, "post_quant_conv", None) is None or getattr(vae, "quant_conv", None) is None:
            raise ConfigError(
                "--to diffusers: DiTPipeline can't hold this model: its latents are normalised per channel or shifted, "
                "and its autoencoder has no post_quant_conv and quant_conv to fold that into"
            )
        vae = copy.deepcopy(vae)
        fold_normalisation(vae, scale, shift)
        vae.save_pretrained(folder)
        factor = 1.0
    config = read_json(folder / "config.json")
    config |= {"scaling_factor": factor, "shift_factor": None, "latents_mean": None, "latents_std": None}
    write_json(folder / "config.json", config)


@torch.no_grad()
def fold_normalisation(vae: Any, scale: Tensor, shift: Tensor) -> None:
    """Put latents = (z - shift) * scale into an autoencoder's own 1x1 convolutions, in float64.

    With P the decoder's convolution, P(latents / scale + shift) = (P_w / scale) latents + P_w shift + P_b. That of the
    encoder gives mean and log-variance: the mean is shifted and scaled, the log-variance grows by 2 log(scale).

    Args:
        vae: AutoencoderKL with `quant_conv` and `post_quant_conv`; changed in place.
        scale: (C,).
        shift: (C,).
    """
    scale, shift = scale.double(), shift.double()
    decoder = vae.post_quant_conv
    weight = decoder.weight.double()  # (C, C, 1, 1)
    decoder.bias.copy_(decoder.bias.double() + (weight * shift[:, None, None]).sum(dim=(1, 2, 3)))
    decoder.weight.copy_(weight / scale[:, None, None])
    encoder = vae.quant_conv  # (2C, 2C, 1, 1): C means, then C log-variances
    mean, log_var = encoder.bias.double().chunk(2)
    encoder.bias.copy_(torch.cat([(mean - shift) * scale, log_var + 2 * scale.log()]))
    mean_weight, log_var_weight = encoder.weight.double().chunk(2)
    encoder.weight.copy_(torch.cat([mean_weight * scale[:, None, None, None], log_var_weight]))

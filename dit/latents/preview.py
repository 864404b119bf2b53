"""A second, small decoder for pictures that are only looked at, such as TAESD for Stable Diffusion's autoencoder.

It was trained on the latents of another autoencoder as that one publishes them, (z - s0) f0, and takes them,
denormalised by its own scale f1 and shift s1, for its z. So of a model's latents (z - shift) * scale it decodes

    z1 = ((latents / scale + shift) - s0) f0 / f1 + s1

C latent channels.

Source: https://github.com/madebyollin/taesd.
"""

from dit.errors import ConfigError
from dit.latents.codec import Codec, load_codec, own_normalisation


def load_preview(source: str, codec: Codec) -> Codec:
    """Load an autoencoder whose decoder takes the latents of another one.

    Args:
        source: an embedded name, a folder or a Hub id.
        codec: between images and a model's latents.

    Returns:
        A codec to decode with: its latents are the model's.

    Raises:
        ConfigError: there is no such autoencoder, or its latents or images have another form.
        DitError: it can't be downloaded or is damaged.
    """
    preview = load_codec(source, codec.device)
    form = "latent_channels", "downscale", "image_channels"
    expected, found = (tuple(getattr(one, name) for name in form) for one in (codec, preview))
    if expected != found or codec.per_channel is None or preview.per_channel is None:
        raise ConfigError(
            f"sampling.preview_decoder: expected a decoder for the latents of {codec.folder.source!r}, per channel and "
            f"of {', '.join(form)} {expected}, found {source!r} with {found}"
        )
    published = own_normalisation(codec.folder.config(), codec.latent_channels)
    f0, s0 = published or ([1.0] * codec.latent_channels, [0.0] * codec.latent_channels)
    rows = zip(*codec.per_channel, *preview.per_channel, f0, s0, strict=True)
    both = [(scale * f1 / f, (shift - s) * f / f1 + s1) for scale, shift, f1, s1, f, s in rows]
    return preview.with_normalisation([scale for scale, _ in both], [shift for _, shift in both])

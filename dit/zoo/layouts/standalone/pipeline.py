"""From classes to images, with a network, a sampler and an autoencoder that stand in this folder.

B images, C channels, H x W latents or pixels.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from dit.zoo.labels import parse_classes


class ClassToImagePipeline(DiffusionPipeline):
    """Class-conditional, or unconditional, generation.

    Args:
        transformer: the network.
        scheduler: samples it.
        vae: decodes latents; None where the network sees pixels.
        guide: a weaker network of the same latents that guides in place of the null class.
        id2label: class id, in decimal, -> name.
        latent_space: what the latents are: `scale` and `shift` of each channel, latents = (z - shift) * scale, or null
            where the autoencoder does that itself.
    """

    model_cpu_offload_seq = "transformer->guide->vae"
    _optional_components: ClassVar[list[str]] = ["vae", "guide"]

    def __init__(
        self,
        transformer: Any,
        scheduler: Any,
        vae: Any = None,
        guide: Any = None,
        # Older versions of diffusers read these annotations and know neither unions nor mappings.
        id2label: Any = None,
        latent_space: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae, guide=guide)
        self.register_to_config(id2label=id2label, latent_space=latent_space)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Make one image per label.

        Args:
            class_labels: ids or names, in any case; of an unconditional network 0 for each image.
            num_inference_steps: solver steps; the model's default by default.
            guidance_scale: 1 is off; the model's default by default.
            generator: of the noise.
            latents: (B, C, H, W) standard normal start noise in place of the generator's.
            output_type: pil, np, pt, or latent for normalised latents.
            return_dict: whether to return an output object rather than a tuple.
        """
        device, arguments = self._execution_device, self.transformer.arguments
        settings: Any = self.config
        names = [(settings.id2label or {}).get(str(i), str(i)) for i in range(max(1, arguments.num_classes))]
        numbers = parse_classes(class_labels, names)
        shape = (len(numbers), arguments.in_channels, *arguments.input_size)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        self.scheduler.set_timesteps(num_inference_steps or self.scheduler.config.sampling["steps"])
        progress: Any = self.progress_bar
        with progress(total=self.scheduler.num_inference_steps) as bar:
            samples = self.scheduler.sample(
                self.transformer,
                latents.to(device),
                torch.tensor(numbers, device=device),
                lambda k: randn_tensor(shape, generator=generator, device=device, dtype=torch.float32),
                guidance_scale=guidance_scale,
                guide=self.guide,
                on_step=lambda k, t, x, predicted: bar.update(),
            )
        images: Any = samples
        if output_type != "latent":
            images = self.image_processor.postprocess(self.decode(samples), output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 1 or 3, height, width) in [-1, 1], not clamped, of normalised latents (B, C, H, W)."""
        if self.vae is None:
            return latents
        settings: Any = self.config
        space = settings.latent_space
        if space and space["scale"] is not None:
            scale, shift = (latents.new_tensor(space[name]).view(-1, 1, 1) for name in ("scale", "shift"))
            latents = latents / scale + shift
        images = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        # Alone among the autoencoders of diffusers it returns pixels in [0, 1].
        return 2 * images - 1 if type(self.vae).__name__ == "AutoencoderRAE" else images

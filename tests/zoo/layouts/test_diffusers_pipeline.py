"""The shipped Gaussian model, exported to diffusers, makes recognisable digits with diffusers alone."""

import numpy as np
import pytest
import torch

from dit.evaluation.features import load_features
from dit.zoo.convert import convert
from dit.zoo.pipeline import load_pipeline

NAME = "dit_ti_2.mnist_gaussian"
LABELS = list(range(10)) * 8
STEPS, GUIDANCE = 20, 2.0


def accuracy(images):
    """Return the share of images (N, 1, 32, 32) uint8 that the MNIST classifier takes for their label."""
    logits = load_features("mnist")(images).logits
    return (logits.argmax(1) == torch.tensor(LABELS)).double().mean().item()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_exported_model_is_sampled_by_diffusers_alone(tmp_path):
    from diffusers import DDIMScheduler, DiTPipeline

    convert(NAME, tmp_path / "out", to="diffusers")
    pipe = DiTPipeline.from_pretrained(tmp_path / "out")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    arrays = pipe(
        LABELS, guidance_scale=GUIDANCE, generator=generator, num_inference_steps=STEPS, output_type="np"
    ).images
    images = torch.from_numpy(np.round(arrays * 255).astype(np.uint8)).permute(0, 3, 1, 2)[:, :1]
    theirs = accuracy(images)
    ours_pipe = load_pipeline(NAME)
    latents = ours_pipe.sample_latents(LABELS, steps=STEPS, guidance=GUIDANCE, solver="ddim", batch_size=80)
    ours = accuracy(ours_pipe.decode(latents))
    print(f"class accuracy of {len(LABELS)} samples: diffusers {theirs:.3f}, dit {ours:.3f}")
    assert theirs >= 0.85
    assert abs(theirs - ours) < 0.12  # three standard errors of a difference of two shares near 0.93

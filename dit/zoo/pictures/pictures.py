"""Pictures that explain a model: how noise becomes an image, what an image's noise is, what lies between two samples.

N samples, C x H x W latents.
"""

import io
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from dit.data.caption import below, caption
from dit.data.picture import image_grid
from dit.rng import Purpose, normal
from dit.sampling.config import SamplingConfig
from dit.sampling.interpolation import ClassMixture, slerp
from dit.sampling.inversion import invert
from dit.sampling.sampler import Callback, sample
from dit.zoo.pipeline import Pipeline

MAX_FRAMES = 60
WAY_MILLISECONDS = 3000  # from noise to image, however many frames there are, between these two for a frame
FRAME_MILLISECONDS = (50, 250)
LAST_FRAME_MILLISECONDS = 2000
LARGE_TILE = 128  # pixels, at least, of a picture with few tiles


@dataclass(frozen=True)
class Trajectory:
    """The states of a sampling run and what the network took the data to be at each."""

    states: list[Tensor]
    """One (N, C, H, W) per step, and the samples at the end."""
    predicted: list[Tensor]
    """The predicted x_0 of each step, (N, C, H, W), and the samples at the end."""
    times: list[float]
    """The time t of each state, from noise to 0."""
    labels: Tensor
    """(N,) the classes."""


def trace(
    pipeline: Pipeline, labels: Tensor, sampling: SamplingConfig, *, seed: int = 0, callback: Callback | None = None
) -> Trajectory:
    """Sample (N,) labels and keep every step; the callback sees each as well."""
    states, predicted, times = [], [], []

    def keep(k: int, t: float, x: Tensor, x_0: Tensor) -> None:
        states.append(x)
        predicted.append(x_0)
        times.append(t)
        if callback is not None:
            callback(k, t, x, x_0)

    labels = labels.to(pipeline.device)
    pipeline.bring("network")
    sampled = sample(
        pipeline.model,
        pipeline.process,
        labels,
        pipeline.latent_shape,
        sampling=sampling,
        seed=seed,
        weaker=pipeline.weaker,
        callback=keep,
    )
    return Trajectory([*states, sampled.latents], [*predicted, sampled.latents], [*times, 0.0], labels.cpu())


def trajectory_frames(pipeline: Pipeline, trajectory: Trajectory, *, columns: int) -> list[Image.Image]:
    """Return one picture per step, at most MAX_FRAMES: the decoded states, and below them the predicted data."""
    names = _names(pipeline, trajectory.labels)
    num_rows = -(-len(trajectory.labels) // columns)
    pipeline.bring("codec")
    above, further = names if num_rows == 1 else [], [""] * (num_rows - 1)
    decode, frames = pipeline.codec.preview.decode, []
    for k in _spread(len(trajectory.states), MAX_FRAMES):
        parts = (trajectory.states[k], trajectory.predicted[k])
        state, predicted = (image_grid(decode(part), columns=columns) for part in parts)
        state = caption(state, above=above, beside=[f"t = {trajectory.times[k]:.2f}", *further])
        frames.append(below(state, caption(predicted, beside=["predicted", *further])))
    return frames


def trajectory_strip(pipeline: Pipeline, trajectory: Trajectory, *, columns: int = 10) -> Image.Image:
    """Return a picture with two rows per sample: its state, and the predicted data, from noise (left) to the end."""
    chosen = _spread(len(trajectory.states), columns)
    pipeline.bring("codec")
    decode = pipeline.codec.preview.decode
    states = torch.stack([decode(trajectory.states[k]) for k in chosen], dim=1)  # (N, columns, c, h, w)
    predicted = torch.stack([decode(trajectory.predicted[k]) for k in chosen], dim=1)
    rows = torch.stack([states, predicted], dim=1)  # (N, 2, columns, c, h, w)
    names = _names(pipeline, trajectory.labels) or ["state"] * len(states)
    return caption(
        image_grid(rows.flatten(0, 2), columns=len(chosen)),
        above=[f"t = {trajectory.times[k]:.2f}" for k in chosen],
        beside=[word for name in names for word in (name, "predicted")],
    )


def save_gif(frames: list[Image.Image]) -> bytes:
    """Return an animated GIF of the frames that loops and rests on the last one."""
    buffer = io.BytesIO()
    shortest, longest = FRAME_MILLISECONDS
    duration = min(longest, max(shortest, WAY_MILLISECONDS // len(frames)))
    durations = [duration] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


@dataclass(frozen=True)
class Inversion:
    """An image, its noise, and what the noise gives back."""

    picture: Image.Image
    """The image, its latent decoded, the noise, and the image made from it, side by side."""
    latent_error: float
    """Root mean square difference between the latents and those that came back; latents have unit variance."""
    pixel_error: float
    """Root mean square difference in pixels (0..255) between the codec's reconstruction and what came back."""
    noise_deviation: float
    """Standard deviation of the noise that was found: 1 for an image like those of the training data."""


def invert_image(
    pipeline: Pipeline,
    image: Tensor,
    label: int,
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    callback: Callback | None = None,
) -> Inversion:
    """Take an image (1, C, height, width) uint8 to its noise and back by the ODE, given its class.

    The latent is drawn from the autoencoder's posterior by the seed. The callback sees the steps of both ways.
    """
    y = torch.tensor([label], device=pipeline.device)
    pipeline.bring("codec")
    moments = pipeline.codec.encode(image.to(pipeline.device).float() / 127.5 - 1)
    # A draw and not the mean: networks are trained on draws, and the mean has a smaller variance.
    drawn = normal(seed, Purpose.LATENT_DRAW, [0], pipeline.latent_shape).to(pipeline.device)
    latents = pipeline.codec.latents_from_moments(moments, drawn)
    model, process = pipeline.model, pipeline.process
    pipeline.bring("network")
    noise = invert(model, process, y, latents, sampling=sampling, callback=callback).latents
    back = sample(model, process, y, pipeline.latent_shape, sampling=sampling, noise=noise, callback=callback).latents
    noise = noise / process.schedule.start_deviation
    tiles = torch.cat([image.cpu(), *(pipeline.decode(part).cpu() for part in (latents, noise, back))])
    difference = tiles[1].float() - tiles[3].float()
    return Inversion(
        picture=caption(
            image_grid(tiles, columns=4, scale=max(1, -(-LARGE_TILE // min(tiles.shape[2:])))),
            above=["image", "autoencoder", "its noise", "from the noise"],
        ),
        latent_error=float((back - latents).square().mean().sqrt()),
        pixel_error=float(difference.square().mean().sqrt()),
        noise_deviation=float(noise.std()),
    )


def interpolate(
    pipeline: Pipeline,
    labels: Tensor,
    sampling: SamplingConfig,
    *,
    between: Literal["seeds", "classes"],
    seed: int = 0,
    columns: int = 8,
    callback: Callback | None = None,
) -> Image.Image:
    """Return a picture whose rows go from one sample to another.

    Args:
        pipeline: the model.
        labels: (N,) classes. Between seeds there is a row per label, from the noise of `seed` to that of `seed` + 1;
            between classes a row from each label to the next, the last to the first, all of one noise per row.
        sampling: how samples are drawn.
        between: what changes along a row.
        seed: of the start noise.
        columns: samples in a row, at least 2.
        callback: sees each step of all of them, row by row.
    """
    shares = torch.linspace(0, 1, columns)
    rows, shape, device = len(labels), pipeline.latent_shape, pipeline.device
    start = normal(seed, Purpose.START_NOISE, range(rows), shape)  # (rows, C, H, W)
    y = labels.repeat_interleave(columns).to(device)
    model = pipeline.model
    if between == "seeds":
        end = normal(seed + 1, Purpose.START_NOISE, range(rows), shape)
        noise = torch.stack([slerp(start, end, float(share)) for share in shares], dim=1).flatten(0, 1)
    else:
        noise = start.repeat_interleave(columns, dim=0)
        other = labels.roll(-1).repeat_interleave(columns).to(device)
        model = ClassMixture(model, other, shares.repeat(rows).to(device))
    noise = pipeline.process.schedule.start_deviation * noise
    pipeline.bring("network")
    latents = sample(
        model, pipeline.process, y, shape, sampling=sampling, seed=seed, noise=noise, callback=callback
    ).latents
    picture, names = image_grid(pipeline.decode(latents), columns=columns), _names(pipeline, labels)
    if between == "seeds":
        return caption(picture, above=[f"seed {seed}", *[""] * (columns - 2), f"seed {seed + 1}"], beside=names)
    ends = zip(names, [*names[1:], *names[:1]], strict=True)
    return caption(picture, beside=[f"{name} to {following}" for name, following in ends])


def _names(pipeline: Pipeline, labels: Tensor) -> list[str]:
    """Return the first of each class's names; none where there are no classes."""
    names = pipeline.class_names
    return [names[label].split(",")[0] for label in labels.tolist()] if names else []


def _spread(num: int, num_kept: int) -> list[int]:
    """Choose at most so many of the numbers 0..num-1, evenly, both ends included."""
    return torch.linspace(0, num - 1, min(num_kept, num)).round().long().tolist()

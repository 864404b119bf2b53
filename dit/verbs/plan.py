"""`dit plan`: what a training run takes on GPUs that are not here."""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dit.models.family import Arguments
    from dit.training.memory import StepMemory
    from dit.training.plan import Plan

RECOMPUTED: tuple[Literal["none", "selective", "blocks"], ...] = ("none", "selective", "blocks")
IMAGENET = 1_281_167


def run(
    model: str,
    /,
    gpus: int = 8,
    kind: Literal["a100", "h100", "h200", "b200"] = "h100",
    shard: Literal["none", "fsdp2", "hsdp"] = "none",
    shard_size: int = 8,
    batch_size: int = 256,
    images: str = "100M",
    mfu: float = 0.2,
    samples: int = IMAGENET,
    price: float | None = None,
) -> None:
    """Say what training a model takes: memory of each process, operations, time, traffic, latents to store and read.

    Memory is counted on a step without numbers, in bfloat16 with AdamW and one average, not compiled. Time follows from
    the operations and the share of the GPU's that is reached, which is assumed: published runs of such networks reached
    12% to 25%.

    Args:
        model: name of an architecture in `dit models`.
        gpus: number of GPUs, a process on each.
        kind: of the GPUs.
        shard: whether a GPU holds a part of the weights and of all that goes with them, as train.shard says.
        shard_size: GPUs that share the weights with hsdp, usually those of a machine.
        batch_size: images of a step over all processes.
        images: images that are trained on, repetitions counted, such as 400M or 1.2B.
        mfu: share of the GPU's operations that is reached, above 0 and at most 1.
        samples: images of the data set, whose latents are stored with and without a flip, as float32 moments.
        price: of an hour of one GPU; without it no cost is told.
    """
    from dit.models.counts import count
    from dit.models.families import arguments_of
    from dit.training.plan import GPUS, Plan
    from dit.training.ranks.sharding import parts_of

    num_images = _checked(gpus, batch_size, images, mfu)
    arguments = arguments_of(model)
    parameters, macs = count(model, arguments)
    plan = Plan(macs, num_images, gpus, GPUS[kind], mfu, parts_of(shard, gpus, shard_size))
    train = {"batch_size": batch_size, "shard": shard, "shard_size": shard_size}
    measured = {how: _measure(model, arguments, train, gpus, how) for how in RECOMPUTED}
    rows = [
        ("model", f"{model}: {parameters:,} parameters, {macs / 1e9:.2f} GMAC per network call"),
        ("processes", f"{gpus} of {batch_size // gpus} images each, on {kind} of {plan.gpu.memory / 1e9:.0f} GB"),
        *_memory_rows(measured, plan.gpu.memory),
        *_run_rows(plan, 4 * parameters, mfu),
        *_latent_rows(arguments, plan, samples),
    ]
    if price is not None:
        rows.append(("cost", f"{plan.seconds / 3600 * gpus * price:,.0f} at {price:g} an hour of a GPU"))
    for name, value in rows:
        print(f"{name:<12}  {value}")


def _checked(gpus: int, batch_size: int, images: str, mfu: float) -> float:
    """Return the number of images, once all options fit each other."""
    from dit.errors import ConfigError
    from dit.training.plan import read_count

    if gpus < 1:
        raise ConfigError(f"--gpus: expected at least 1, found {gpus}")
    if batch_size < gpus or batch_size % gpus:
        raise ConfigError(f"--batch_size: expected a multiple of the {gpus} GPUs, found {batch_size}")
    if not 0 < mfu <= 1:
        raise ConfigError(f"--mfu: expected a share above 0 and at most 1, found {mfu:g}")
    try:
        num_images = read_count(images)
    except ValueError:
        num_images = 0.0
    if not 1 <= num_images < float("inf"):
        raise ConfigError(f"--images: expected a number such as 400M, found {images!r}")
    return num_images


def _measure(
    model: str, arguments: "Arguments", train: dict[str, Any], gpus: int, how: Literal["none", "selective", "blocks"]
) -> "StepMemory":
    import torch

    from dit.config import check_recipe
    from dit.training.memory import measure_step

    section = {"name": model, "input_size": list(arguments.input_size), "in_channels": arguments.in_channels}
    train = {**train, "mixed_precision": "bf16", "activation_checkpointing": how}
    recipe = check_recipe({"model": section, "train": train})
    return measure_step(recipe, device=torch.device("cpu"), num_processes=gpus, as_gpu=True)[0]


def _memory_rows(measured: "dict[str, StepMemory]", available: float) -> list[tuple[str, str]]:
    from dit.display import in_bytes

    kinds = ("parameters", "gradients", "optimizer", "averages")
    plain = measured["none"]
    kinds += ("gathered",) if plain.gathered else ()
    sizes = {kind: getattr(plain, kind) or 0 for kind in kinds}
    rows = [("memory", ", ".join(f"{kind} {in_bytes(size)}" for kind, size in sizes.items()) + " a process")]
    for how, found in measured.items():
        fits = "fits" if found.peak < available else "does not fit"
        rows.append(
            (
                "" if how != "none" else "activations",
                f"{in_bytes(found.activations)}, {in_bytes(found.peak)} in all at most: {fits}"
                + (f" (train.activation_checkpointing {how})" if how != "none" else ""),
            )
        )
    return rows


def _run_rows(plan: "Plan", gradients: int, mfu: float) -> list[tuple[str, str]]:
    from dit.display import in_bytes

    return [
        (
            "operations",
            f"{plan.operations:.3g} for {plan.num_images:,.0f} images, a third more with blocks computed again",
        ),
        (
            "time",
            f"{plan.seconds / 3600:,.1f} h at {mfu:.0%} of the GPUs' products: {plan.images_per_second:,.0f} images/s",
        ),
        ("traffic", f"{in_bytes(plan.bytes_sent(gradients))} sent by a process in a step"),
    ]


def _latent_rows(arguments: "Arguments", plan: "Plan", samples: int) -> list[tuple[str, str]]:
    from dit.display import in_bytes

    if arguments.in_channels == 3:  # images themselves
        return []
    height, width = arguments.input_size
    of_one = 2 * arguments.in_channels * height * width * 4
    rate = in_bytes(plan.images_per_second * of_one)
    return [("latents", f"{in_bytes(2 * samples * of_one)} of {samples:,} images, read at {rate} a second")]

"""`dit train`: from a recipe to a trained, exported and evaluated model."""

import shutil
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit.launcher import is_main

if TYPE_CHECKING:
    from dit.config import Recipe
    from dit.diffusion.process import Process
    from dit.latents.codec import Codec
    from dit.latents.dataset import LatentDataset
    from dit.latents.features import TrainingSplit
    from dit.latents.stored import StoredLatents
    from dit.training.batch import TrainingSet
    from dit.training.trainer import Start
    from dit.zoo.source import Located


def run(
    recipe: str,
    /,
    output: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    change: list[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Train a model by a recipe, export it, and evaluate the export where the recipe says how.

    Any field of the recipe can be set on the command line: --section.field VALUE, the value in YAML. The run folder
    holds the recipe with every field written out, metrics.jsonl, status.json, checkpoints/, samples/ and, at the end,
    export/: the folder that the other commands take and that can be published.

    Args:
        recipe: YAML file, or the name of a shipped recipe, such as dit_ti_2_mnist; `dit recipes` lists them.
        output: run folder, new or empty; runs/ and the recipe's name by default.
        resume: continue the run in the output folder, or start it where there is none.
        dry_run: print the recipe as it would be used and what it amounts to, then stop.
        change: FIELD=VALUE, such as optim.lr=5e-5: a field of the recipe that a resumed run goes on with another value
            of, on purpose; run.json says from which step. It may be given several times.
        overrides: dotted field of the recipe -> value.
    """
    output = output or Path("runs") / Path(recipe).stem
    changes = _read_changes(change or (), resume=resume)
    overrides = {**(overrides or {}), **changes}
    if is_main() and not (resume or dry_run):
        _check_new(output)
    loaded, weights, start = _load(recipe, overrides, dry_run)
    if dry_run:
        _print_plan(loaded, output)
        return
    _train(loaded, output, resume=resume, changed=changes.keys(), weights=weights, start=start)
    if is_main():
        _finish(loaded, output)


def _read_changes(texts: Collection[str], *, resume: bool) -> dict[str, Any]:
    """Return the values, by dotted field, that a resumed run is given on purpose."""
    from dit.errors import ConfigError
    from dit.training.run.resume import check_changes
    from dit.yaml12 import parse_yaml

    changes: dict[str, Any] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--change: expected FIELD=VALUE, such as optim.lr=5e-5, found {text!r}")
        if not resume:
            raise ConfigError(f"--change {field}: expected --resume, found none; a new run takes --{field} VALUE")
        changes[field] = parse_yaml(value, origin=f"--change {field}")
    check_changes(changes)
    return changes


def _load(
    recipe: str, overrides: Mapping[str, Any] | None, dry_run: bool
) -> tuple["Recipe", "Located | None", "Start | None"]:
    """Read the recipe; what it leaves out is the pretrained weights' own, where it names such.

    Returns:
        The recipe, what was found of the weights, and where the run begins if they are in a training file.
    """
    from dit.config import check_recipe, read_recipe
    from dit.errors import ConfigError

    check = partial(check_recipe, origin=recipe, overridden=overrides or ())
    data = read_recipe(recipe, overrides)
    model = data.get("model")
    if not isinstance(model, dict) or model.get("pretrained") is None:
        checked = check(data)
        if checked.ema.from_file:
            raise ConfigError("ema.from_file: expected model.pretrained, the training file, found none")
        return checked, None, None
    sections = check(
        {name: section for name, section in data.items() if name != "process"}
    )  # before anything is downloaded
    from dit.zoo.described import describe
    from dit.zoo.finetune import check_process, complete
    from dit.zoo.source import locate

    start = None
    if sections.ema.from_file:
        weights, start = _open_training_file(sections, model, data.get("process"))
    else:
        # A run's weights are downloaded now: data may be encoded for hours before they are loaded.
        weights = (describe if dry_run else locate)(model["pretrained"])
    checked = check(complete(data, weights))
    check_process(checked, weights)
    return checked, weights, start


def _open_training_file(recipe: "Recipe", model: Mapping[str, Any], process: Any) -> tuple["Located", "Start"]:
    """Read another program's training file: its weights, and where the run begins."""
    from dit.display import say
    from dit.errors import ConfigError
    from dit.models.families import family_of
    from dit.training.trainer import Start
    from dit.zoo.layouts.training_file import read_training_file
    from dit.zoo.source import Located

    if recipe.optim.trainable.name != "all":
        raise ConfigError(f"ema.from_file: expected optim.trainable all, found {recipe.optim.trainable.name}")
    path = Path(model["pretrained"])
    given = {key: value for key, value in model.items() if key != "pretrained" and value is not None}
    name = given.pop("name", None)
    if name is not None:  # a variant of other sizes is none, and only its heads are not told by tensors
        heads = {"num_heads": family_of(name).variants.get(name, {}).get("num_heads")}
        given = {**heads, **given} if given else {"name": name}
    found = read_training_file(path, given, process.get("name") if isinstance(process, dict) else process)
    for notice in found.model.notices if is_main() else ():
        if "--" not in notice:  # an option of another command, for what the recipe says here
            say(f"{path}: {notice}")
    start = Start(str(path), found.average, found.moments, found.step)
    return Located(path, found.model.config, [], found.model.tensors), start


def _print_plan(recipe: "Recipe", output: Path) -> None:
    """Print the resolved recipe and its size; the autoencoder and the data are looked at only where they decide it."""
    from dit.config import dump_recipe
    from dit.models.counts import count
    from dit.models.families import arguments_of
    from dit.training.resolve import resolve
    from dit.training.run.decay import with_decay

    _create_process(recipe)
    given = recipe.model
    latent_shape = num_classes = None
    if given.num_classes is None or recipe.train.epochs is not None:
        from dit.data.images import open_images
        from dit.latents.stored import open_stored

        stored = open_stored(recipe.data, recipe.latents)
        images = open_images(recipe.data, "train") if stored is None else stored.train
        num_classes = len(images.class_names)
        recipe = recipe.model_copy(update={"train": recipe.train.with_max_steps(len(images))})
    if given.input_size is None or given.in_channels is None:
        from dit.latents.codec import load_codec

        codec = load_codec(recipe.latents)
        latent_shape = (codec.latent_channels, *codec.latent_size(recipe.data.image_size))
    recipe = with_decay(resolve(recipe, latent_shape=latent_shape, num_classes=num_classes))
    parameters, macs = count(recipe.model.name, arguments_of(recipe.model.name, **recipe.model.overrides()))
    steps, batch = recipe.train.max_steps, recipe.train.batch_size
    print(dump_recipe(recipe))
    print(f"# parameters: {parameters:,}, {macs / 1e9:.2f} GMAC per network call")
    if recipe.optim.trainable.name != "all":
        trained = _count_trained(recipe)
        print(f"# trained: {trained:,}, {trained / parameters:.1%}")
    print(f"# steps: {steps:,} of {batch:,} images, {steps * batch:,} images in all")
    print("# " + _memory(recipe))
    print(f"# output: {output}")


def _memory(recipe: "Recipe") -> str:
    """Say what a step takes in each process, where it would run now."""
    from dit.device import choose_device
    from dit.display import in_bytes
    from dit.launcher import num_processes
    from dit.training.memory import measure_step

    device, count = choose_device(), num_processes()
    found, precision = measure_step(recipe, device=device, num_processes=count)
    kinds = ("parameters", "gradients", "optimizer", "averages", "activations")
    kinds += ("gathered",) if found.gathered else ()
    sizes = {kind: getattr(found, kind) for kind in kinds}
    shown = ", ".join(f"{kind} {'not known' if size is None else in_bytes(size)}" for kind, size in sizes.items())
    micro = max(1, recipe.train.batch_size // (count * recipe.train.gradient_accumulation))
    return (
        f"train.memory of a process, {micro} images at a time in {precision} on {device.type}, not compiled: {shown}; "
        f"{in_bytes(found.peak)} at most"
    )


def _count_trained(recipe: "Recipe") -> int:
    """Return the number of parameters that are trained; patterns that match none are refused."""
    from dit.training.setup import freeze
    from dit.training.weights.trainable import count_trained
    from dit.zoo.folder.config import ModelDescription
    from dit.zoo.folder.weights import empty_model

    network = empty_model(ModelDescription.of(recipe.model.name, **recipe.model.overrides()))
    freeze(recipe, network)
    return count_trained(network)


def _create_process(recipe: "Recipe", null_class: int | None = None) -> "Process":
    """Create the process; what does not fit is refused now, and not at the first step or preview."""
    from dit.diffusion.create import create_process
    from dit.models.registry import network_class
    from dit.sampling.grid import create_grid
    from dit.sampling.network import check_conditions, check_guidance
    from dit.training.objectives.create import check_objective

    process = create_process(recipe.process, null_class)
    network = network_class(recipe.model.name)
    check_conditions(network, process)
    check_guidance(network, recipe.sampling)
    check_objective(recipe.objective, network, process)
    create_grid(process, recipe.sampling)
    return process


def _open_source(recipe: "Recipe") -> "StoredLatents | None":
    """Open the latents that data.source names; None for images. A wrong source is refused before any download."""
    from dit.data.images import open_images
    from dit.errors import ConfigError
    from dit.latents.stored import open_stored

    stored, features = open_stored(recipe.data, recipe.latents), recipe.evaluation.features
    if stored is None:
        open_images(recipe.data, "train")
    elif recipe.latents.encode == "while_training":
        raise ConfigError(
            f"latents.encode: expected ahead, since data.source {recipe.data.source} holds latents, no images; found "
            "while_training"
        )
    elif features is not None:
        raise ConfigError(
            f"evaluation.features: expected null, since data.source {recipe.data.source} holds latents and no images "
            f"to measure samples against, found {features!r}; name images to `dit evaluate --data` later"
        )
    return stored


def _train(
    recipe: "Recipe",
    output: Path,
    *,
    resume: bool,
    changed: Collection[str],
    weights: "Located | None",
    start: "Start | None",
) -> None:
    """Encode the data where that was not done yet, build the network and train it."""
    import torch

    from dit.errors import Preempted
    from dit.latents.codec import load_codec
    from dit.latents.features import feature_caches
    from dit.latents.preview import load_preview
    from dit.training.loop import run as train
    from dit.training.ranks.processes import start_processes
    from dit.training.resolve import resolve
    from dit.zoo.create import create_model

    _create_process(recipe)
    _count_trained(recipe)  # what matches nothing is refused before data are encoded
    processes = start_processes(recipe.train)
    stored = _open_source(recipe)
    if recipe.objective.alignment and recipe.objective.alignment.features:
        feature_caches(recipe.objective.alignment.features)  # missed now, and not once all latents are encoded
    codec = load_codec(recipe.latents, processes.device)
    if recipe.sampling.preview_decoder is not None:
        codec.preview = load_preview(recipe.sampling.preview_decoder, codec)
    train_set, val_set = _open_splits(recipe, codec, stored)
    recipe = resolve(recipe, latent_shape=train_set.latents_shape, num_classes=train_set.num_classes)
    train_set = _with_features(recipe, train_set)
    torch.manual_seed(recipe.train.seed)
    model = create_model(
        recipe.model.name,
        pretrained=weights or False,
        id2label=dict(enumerate(train_set.class_names)),
        **recipe.model.overrides(),
    )
    process = _create_process(recipe, model.null_class)
    try:
        train(recipe, model, process, codec, train_set, val_set, output, resume=resume, changed=changed, start=start)
    except Preempted:  # in all processes
        processes.end()
        raise
    processes.end()


def _open_splits(
    recipe: "Recipe", codec: "Codec", stored: "StoredLatents | None"
) -> tuple["TrainingSplit", "LatentDataset | None"]:
    """Return the training and the held-out split; every process asks, and takes part in what is encoded ahead."""
    from dit.latents.dataset import LatentDataset
    from dit.latents.encode import encode_dataset
    from dit.latents.image_dataset import ImageDataset
    from dit.latents.plan import make_plan
    from dit.latents.statistics import normalise_measured

    data, latents, is_measured = recipe.data, recipe.latents, recipe.latents.normalise == "measured"
    if stored is not None:
        stored.check(data, codec, is_measured=is_measured)
        train_set, val_set = stored.train, stored.val
    else:
        if latents.encode == "while_training":
            train_set = ImageDataset(
                make_plan(data, latents, codec, "train"), keep_images=recipe.objective.needs_images
            )
        else:
            train_set = encode_dataset(data, latents, codec, "train")
        val_set = encode_dataset(data, latents, codec, "val") if recipe.train.validate_every else None
    if is_measured:
        assert isinstance(train_set, LatentDataset)  # the recipe's section says so
        normalise_measured(codec, train_set, stored and stored.statistics)
    return train_set, val_set


def _with_features(recipe: "Recipe", train_set: "TrainingSplit") -> "TrainingSet":
    """Return the training split, with the cached features that a loss reads."""
    from dit.latents.features import WithFeatures, open_features
    from dit.models.families import arguments_of
    from dit.training.objectives.masks import patches_of

    section = recipe.objective.alignment
    if section is None or section.features is None:
        return train_set
    grid = patches_of(arguments_of(recipe.model.name, **recipe.model.overrides())).grid_size
    features = open_features(section.features, train_set, section.encoder, grid, flip=recipe.data.flip)
    return WithFeatures(train_set, features)


def _finish(recipe: "Recipe", output: Path) -> None:
    """Export the run and evaluate the export, which is loaded again from its folder."""
    from dit.device import choose_device
    from dit.measuring.beside_held_out import evaluate_source
    from dit.measuring.report import REPORT
    from dit.run_files import RunFiles
    from dit.zoo.export import SAMPLES_NAME, export
    from dit.zoo.folder.config import is_exported

    folder = RunFiles(output).export
    if is_exported(folder):  # of the run that was now continued; a checkpoint makes it again
        shutil.rmtree(folder)
    export(output, folder)
    if recipe.evaluation.features is not None:
        evaluate_source(folder, recipe, out=folder / REPORT, device=choose_device())
    print(f"export   {folder}")
    print(f"samples  {folder / SAMPLES_NAME}")


def _check_new(output: Path) -> None:
    from dit.errors import ConfigError

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            f"{output}: expected a new or empty folder, found files there; continue that run with --resume or choose "
            "another --output"
        )

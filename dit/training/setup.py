"""From a recipe and its parts to a trainer that is ready for its first, or its next, step."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from dit import __version__
from dit.checkpoint import Checkpoint
from dit.config import Recipe, dump_recipe
from dit.data.config import DataConfig
from dit.data.order import Window, check_batch_size
from dit.diffusion.process import Process
from dit.display import say, warn
from dit.errors import ConfigError
from dit.files import write_text
from dit.latents.features import WithFeatures
from dit.layers.compiler import expect_no_gpu
from dit.models.counts import count
from dit.models.network import Network, compile_blocks, hidden_matrices
from dit.plugins import loaded_plugins
from dit.rng import TRAINING_LAW
from dit.run_files import Change, RunFacts, cut_rows, read_rows
from dit.signals import StopSignals
from dit.training.activations import recompute_blocks
from dit.training.batch import BatchSource, Share, TrainingSet
from dit.training.compilation import compiles, keep_blocks_whole
from dit.training.monitor.health import SpikeMonitor
from dit.training.objectives import create as objectives
from dit.training.ranks.joint_checkpoint import load_newest
from dit.training.ranks.processes import Processes
from dit.training.run.decay import load_start
from dit.training.run.folder import RunFolder
from dit.training.run.resume import (
    LAW_OF_DRAWS,
    changes_of,
    check_checkpoints_are_there,
    check_same_run,
    flat_fields,
)
from dit.training.step import Stepper
from dit.training.trainer import Start, Trainer
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer
from dit.training.weights.trainable import choose_trained, count_trained

if TYPE_CHECKING:
    from dit.latents.codec import Codec


def run_facts(
    recipe: Recipe, model: Network, processes: Processes, codec: "Codec", train_set: TrainingSet
) -> dict[str, Any]:
    """Return what must be the same in all processes and when the run is resumed, by dotted field."""
    latents = codec.describe().model_dump(mode="json", include={"fingerprint", "scale", "shift"})
    return {
        **flat_fields(recipe),
        **{f"model.{key}": value for key, value in model.arguments.model_dump(mode="json").items()},
        **{f"latents: {key}": value for key, value in latents.items()},
        "train.mixed_precision": processes.precision,
        "data: number of images": len(train_set),
        "data: fingerprint": train_set.fingerprint,
        LAW_OF_DRAWS: TRAINING_LAW,
        "draws: kind of device": processes.device.type,
    }


def check_sizes(recipe: Recipe, model: Network, processes: Processes, train_set: TrainingSet) -> None:
    """Refuse sizes that do not fit each other.

    Raises:
        ConfigError: the batch can't be split evenly, the data set is smaller than a batch, or its latents or labels
            are not what the network takes.
    """
    train = recipe.train
    num_parts = processes.count * train.gradient_accumulation
    if train.batch_size % num_parts:
        raise ConfigError(
            f"train.batch_size: expected a multiple of {num_parts} ({processes.count} processes times "
            f"train.gradient_accumulation {train.gradient_accumulation}), found {train.batch_size}"
        )
    check_batch_size(len(train_set), train.batch_size)
    expected, found = (model.arguments.in_channels, *model.arguments.input_size), tuple(train_set.latents_shape)
    if expected != found:
        raise ConfigError(f"model.input_size, model.in_channels: the latents are {found}, the network takes {expected}")
    objectives.check_sizes(recipe.objective, model, train.batch_size // num_parts)
    num_classes = model.arguments.num_classes
    if 0 < num_classes < train_set.num_classes:
        raise ConfigError(
            f"model.num_classes: expected at least the data's {train_set.num_classes}, found {num_classes}"
        )


def freeze(recipe: Recipe, model: Network) -> None:
    """Leave to training what the recipe says, in place.

    Raises:
        ConfigError: `optim.trainable` names what the network has not.
    """
    objectives.freeze_unused(recipe.objective, model)
    choose_trained(model, recipe.optim.trainable, recipe.train.seed)


def write_facts(
    folder: RunFolder,
    facts: dict[str, Any],
    recipe: Recipe,
    model: Network,
    codec: "Codec",
    train_set: TrainingSet,
    *,
    changed: Collection[str],
    step: int,
) -> None:
    """Write `recipe.yaml` and `run.json`, from which the run is exported and resumed, if they describe the same run.

    Args:
        folder: the run's.
        facts: from `run_facts`.
        recipe: with what the data decided filled in.
        model: the network.
        codec: between latents and images.
        train_set: training split.
        changed: fields that are changed on purpose.
        step: from which the run goes on.

    Raises:
        ConfigError: the folder holds a run that this recipe does not continue, or whose checkpoints are gone; or it
            holds none to change.
    """
    changes: list[Change] = []
    if folder.facts.exists():
        known = folder.read_facts()
        check_same_run(known.facts, facts, origin=str(folder.path), changed=changed)
        check_checkpoints_are_there(folder, recipe.train.checkpoint_every)
        changes = [*known.changes, *changes_of(known.facts, facts, changed, step)]
    elif changed:
        raise ConfigError(f"--change {min(changed)}: expected a run in {folder.path} to be resumed, found none")
    codec.save(folder.path)
    write_text(folder.recipe, dump_recipe(recipe))
    folder.write_facts(
        RunFacts(
            code_version=__version__,
            model_arguments=model.arguments.model_dump(mode="json"),
            codec=codec.describe(),
            id2label={str(index): name for index, name in enumerate(train_set.class_names)},
            facts=facts,
            changes=changes,
            plugins=loaded_plugins(),
        )
    )


def assemble(
    recipe: Recipe,
    model: Network,
    process: Process,
    codec: "Codec",
    train_set: TrainingSet,
    processes: Processes,
    signals: StopSignals,
) -> Trainer:
    """Put the parts of a run together, at step 0."""
    train = recipe.train
    model = model.to(processes.device).train()
    if recipe.optim.trainable.name != "all":
        trained, total = count_trained(model), sum(parameter.numel() for parameter in model.parameters())
        processes.on_main(lambda: say(f"training {trained:,} of {total:,} parameters, {trained / total:.1%}"))
    # The averages copy the network before Accelerate wraps its forward, and take the weights that process 0 sent out.
    ema = Ema(model, recipe.ema, whole=recipe.optim.trainable.name == "all")
    recompute_blocks(model, train.activation_checkpointing)
    macs = count(recipe.model.name, model.arguments).macs
    if is_compiled := compiles(train, macs, processes.device, processes.precision, processes.count):
        processes.on_main(lambda: say("the block is compiled (train.compile); the first step takes a minute or two"))
        expect_no_gpu()
        keep_blocks_whole()
        compile_blocks(model)
    if train.mixed_precision == "auto" and processes.precision != "fp32":
        processes.on_main(
            lambda: say(f"training in {processes.precision} with float32 weights (train.mixed_precision)")
        )
    num_features = train_set.num_features if isinstance(train_set, WithFeatures) else None
    objective = objectives.create_objective(
        recipe.objective, process, model, ema.network, processes, train, num_features
    )
    if processes.mesh is not None:
        ema.shard(processes.shard)
    ema.restart(model)
    source = BatchSource(
        dataset=train_set,
        codec=codec.to(processes.device),
        num_classes=model.arguments.num_classes,
        drop_probability=model.arguments.class_dropout_prob,
        flip=recipe.data.flip,
        crop=recipe.data.crop,
        seed=train.seed,
        device=processes.device,
        share=Share(train.batch_size, processes.rank, processes.count, train.gradient_accumulation),
        window=_window(recipe.data, train_set),
        num_uniforms=process.num_uniforms,
    )
    stepper = Stepper(
        objective=objective,
        source=source,
        optimizer=create_optimizer(objective.trained, recipe.optim, hidden_matrices(model)),
        processes=processes,
        signals=signals,
        num_buckets=train.validation_buckets,
        max_grad_norm=recipe.optim.max_grad_norm,
    )
    spikes = SpikeMonitor(train.spike_sigma)
    return Trainer(recipe, model, ema, stepper, is_compiled, spikes=spikes, stopwatch=source.stopwatch)


def _window(data: DataConfig, train_set: TrainingSet) -> Window | None:
    return Window(tuple(train_set.part_sizes.tolist()), data.shuffle_window) if data.shuffle == "shards" else None


def find_start(folder: RunFolder, recipe: Recipe, facts: dict[str, Any], processes: Processes) -> Checkpoint | None:
    """Return what a run goes on from: its newest checkpoint that verifies, else that of another run, else nothing.

    Raises:
        DitError: there are checkpoints and none is whole.
        ConfigError: the processes see different checkpoints, or that of another run does not fit.
    """
    saved = load_newest(processes, folder.checkpoints)
    if processes.is_main:
        for reason in saved.passed_over if saved else ():
            warn(f"a newer checkpoint was passed over: {reason}")
        if saved is None and (rows := read_rows(folder.metrics)):
            warn(f"the run has no checkpoint yet: its steps up to {rows[-1]['step']} are made again")
    if saved is None and recipe.train.decay_from is not None:
        return load_start(recipe, facts)
    return saved


def restore(trainer: Trainer, saved: Checkpoint | Start | None, folder: RunFolder, processes: Processes) -> None:
    """Continue from a checkpoint or another program's file, if there is one, and forget the metrics after it.

    Raises:
        DitError: it does not fit.
    """
    if isinstance(saved, Start):
        trainer.begin_with(saved)
    elif saved is not None:
        trainer.restore(saved)
    processes.on_main(lambda: cut_rows(folder.metrics, trainer.step))

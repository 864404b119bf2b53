"""A training run from beginning to end: step, validate, preview, log, save.

`run` is handed the network, the process, the codec and the data, and owns the run folder while it works.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dit.config import Recipe
from dit.diffusion.process import Process
from dit.display import Progress, warn
from dit.errors import ConfigError, DitError, Preempted
from dit.layers.precision import same_bits, tf32_products
from dit.models.network import Network, narrowest_width
from dit.run_files import append_row
from dit.signals import StopSignals
from dit.training.batch import TrainingSet
from dit.training.monitor.health import bad_step_error, dump_bad_step, explain_out_of_memory
from dit.training.monitor.log import Window
from dit.training.monitor.preview import Preview
from dit.training.monitor.quality import create_quality
from dit.training.monitor.step_totals import StepMetrics
from dit.training.monitor.trackers import Trackers
from dit.training.monitor.validation_loss import Validation, with_fixed_times
from dit.training.ranks.heartbeat import ExchangeError, Heartbeat, explain, is_exchange_failure
from dit.training.ranks.processes import Processes, start_processes
from dit.training.run.decay import with_decay
from dit.training.run.folder import RunFolder
from dit.training.run.resume import check_changes
from dit.training.setup import assemble, check_sizes, find_start, freeze, restore, run_facts, write_facts
from dit.training.step import Attempt
from dit.training.trainer import Start, Trainer
from dit.training.weights.schedule import learning_rates, set_learning_rates, share_of_peak

if TYPE_CHECKING:
    from dit.latents.codec import Codec
    from dit.latents.dataset import LatentDataset


@dataclass(frozen=True)
class RunResult:
    """What a finished run has to say."""

    folder: Path
    """The run folder."""
    step: int
    """Optimizer steps made."""
    is_main: bool
    """Whether this process is the one that writes and speaks; the others have nothing more to do."""


def run(
    recipe: Recipe,
    model: Network,
    process: Process,
    codec: "Codec",
    train_set: TrainingSet,
    val_set: "LatentDataset | None",
    output: str | Path,
    *,
    resume: bool = False,
    changed: Collection[str] = (),
    start: Start | None = None,
) -> RunResult:
    """Train a network.

    Args:
        recipe: what to do, with what the data decided filled in.
        model: the network, drawn from the recipe's seed or loaded.
        process: what it learns.
        codec: between latents and images.
        train_set: training split.
        val_set: held-out split; None or empty: no validation loss.
        output: run folder; new or empty, unless `resume`.
        resume: continue the run in `output` from its newest checkpoint; start it where none was written yet.
        changed: dotted fields that the run goes on with another value of, on purpose.
        start: where a run without a checkpoint begins, other than at step 0 with nothing but weights.

    Raises:
        ConfigError: the recipe can't be run here, or does not continue the run in `output`.
        DitError: the run failed in a way that the message explains.
        Preempted: a signal came; a checkpoint was written.
    """
    check_changes(changed)
    recipe = with_decay(recipe.model_copy(update={"train": recipe.train.with_max_steps(len(train_set))}))
    if start is not None and start.step >= (max_steps := recipe.train.max_steps):
        raise ConfigError(f"train.max_steps: expected more than the {start.step} of {start.origin}, found {max_steps}")
    processes = start_processes(recipe.train, narrowest_width(model))
    check_sizes(recipe, model, processes, train_set)
    freeze(recipe, model)
    facts = run_facts(recipe, model, processes, codec, train_set)
    processes.check_agreement(facts)
    folder = RunFolder(output)
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(folder.locked(resume=resume)))
        saved = find_start(folder, recipe, facts, processes)
        described = (folder, facts, recipe, model, codec, train_set)
        step = saved.step if saved else start.step if start else 0
        processes.on_main(lambda: write_facts(*described, changed=changed, step=step))
        signals = stack.enter_context(StopSignals())
        heartbeat = Heartbeat(folder.heartbeats, processes.rank)
        if processes.count > 1:
            stack.enter_context(heartbeat)
        stack.enter_context(_failures_explained(recipe, folder, processes))
        stack.enter_context(tf32_products(processes.device))
        stack.enter_context(same_bits(recipe.train.deterministic))
        trainer = assemble(recipe, model, process, codec, train_set, processes, signals)
        restore(trainer, saved or start, folder, processes)
        _Loop(trainer, folder, processes, heartbeat, val_set).until_done()
    return RunResult(folder.path, trainer.step, processes.is_main)


class _Loop:
    """The loop, and what it reports on the way."""

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        processes: Processes,
        heartbeat: Heartbeat,
        val_set: "LatentDataset | None",
    ) -> None:
        recipe = trainer.recipe
        self.trainer, self.folder, self.processes, self.heartbeat = trainer, folder, processes, heartbeat
        self.config = recipe.train
        self.validation = _validation(trainer, processes, val_set)
        self.preview = _preview(trainer, processes)
        self.quality = create_quality(recipe, trainer.stepper.objective.process, trainer.stepper.source, processes)
        self.trackers = Trackers(
            self.config.trackers if processes.is_main else (), folder.path, recipe, first_step=trainer.step
        )
        self.progress = Progress(
            self.config.max_steps, "train", unit="steps", start=trainer.step, enabled=processes.is_main
        )
        self.learning_rates: dict[str, float] = {}
        self.is_stopping = False

    def until_done(self) -> None:
        """Train up to the last step, or until a signal or a fault."""
        trainer = self.trainer
        trainer.stopwatch.lap("start")
        self.write_status("running")
        try:
            while trainer.step < self.config.max_steps:
                self.make_step()
                if self.is_row_due():
                    self.write_row(self.validate() | self.evaluate() | self.draw_preview())
                if self.is_checkpoint_due() or self.is_stopping:
                    with trainer.stopwatch.pause("checkpoint"):
                        trainer.save(self.folder)
                if self.is_stopping and trainer.step < self.config.max_steps:
                    raise Preempted(f"stopped by a signal after step {trainer.step}; go on with --resume")
        finally:
            trainer.stepper.source.close()
            self.progress.close()
            self.trackers.close()
        self.write_status("done")

    def make_step(self) -> None:
        """Make one optimizer step and take in the metrics that have arrived."""
        trainer = self.trainer
        optim = trainer.recipe.optim
        share = share_of_peak(optim, trainer.step, max_steps=self.config.max_steps)
        set_learning_rates(trainer.stepper.optimizer, share)
        self.learning_rates = learning_rates(optim, share)
        if trainer.stepper.attempt(trainer.step):
            trainer.ema.update(trainer.step + 1)
        trainer.step += 1
        self.heartbeat.step = trainer.step
        self.progress.advance()
        is_snapshot_due = bool(trainer.ema.power_names) and self.is_due(trainer.recipe.ema.snapshot_every)
        is_saving = self.is_checkpoint_due() or is_snapshot_due
        self.take_in(all_of_them=is_saving or self.is_row_due() or self.is_stopping)
        if is_snapshot_due:
            with trainer.stopwatch.pause("checkpoint"):
                trainer.save_snapshot(self.folder)

    def take_in(self, *, all_of_them: bool) -> None:
        """Take in metrics: end the run if one is not finite, note signals and spikes, add to the open row."""
        trainer = self.trainer
        for metrics, attempt in trainer.stepper.arrived(all_of_them=all_of_them):
            if metrics.is_bad:
                self.fail(metrics, attempt)
            trainer.window.add(metrics)
            self.is_stopping |= metrics.is_stop
            if spike := trainer.spikes.add(metrics.step, metrics.loss):
                if self.config.on_spike == "stop":
                    raise DitError(f"{spike}; the run stops, as train.on_spike says")
                if self.processes.is_main:
                    warn(spike)

    def fail(self, metrics: StepMetrics, attempt: Attempt) -> None:
        """Dump what went into a step that is not finite, and end the run in every process."""
        rank = self.processes.rank
        path, num_bad = dump_bad_step(self.folder.path, attempt.step, rank, attempt.parts, metrics.grad_norm)
        counts = self.processes.gather(torch.tensor([num_bad], device=self.processes.device)).tolist()
        raise bad_step_error(attempt.step, counts, path.parent, metrics.grad_norm, metrics.bad_terms)

    def is_due(self, every: int) -> bool:
        """Tell whether what happens every so many steps (0: never), and after the last, happens now."""
        return every > 0 and (self.trainer.step % every == 0 or self.trainer.step == self.config.max_steps)

    def is_checkpoint_due(self) -> bool:
        """Tell whether a checkpoint is due, one that is kept or another."""
        return any(map(self.is_due, (self.config.checkpoint_every, self.config.keep_every)))

    def is_row_due(self) -> bool:
        """Tell whether a row of metrics is due: also whenever something else has a column for it."""
        config = self.config
        every = (config.log_every, config.validate_every, config.evaluate_every, config.preview_every)
        return any(map(self.is_due, every))

    def validate(self) -> dict[str, Any]:
        """Return the validation columns of a row, if they are due."""
        if self.validation is None or not self.is_due(self.config.validate_every):
            return {}
        with self.trainer.stopwatch.pause("validation"):
            averages = {name: average.network for name, average in self.trainer.ema.averages.items()}
            return self.validation.row(self.trainer.model, averages)

    def evaluate(self) -> dict[str, Any]:
        """Return the figures of the average's samples, if they are due, and keep its weights if they are the best."""
        if self.quality is None or not self.is_due(self.config.evaluate_every):
            return {}
        with self.trainer.stopwatch.pause("evaluation"):
            figures = self.quality.measure(self.trainer.ema.whole_network(), self.folder.path / "evaluation")
        with self.trainer.stopwatch.pause("checkpoint"):
            self.trainer.save_if_best(self.folder, figures)
        return {f"eval_{name}": value for name, value in figures.items()}

    def draw_preview(self) -> dict[str, Any]:
        """Draw a grid of samples and return its column of a row, if it is due."""
        if not self.is_due(self.config.preview_every):
            return {}
        path = self.folder.samples / f"step-{self.trainer.step:08d}.png"
        with self.trainer.stopwatch.pause("preview"):
            network = self.trainer.ema.whole_network()
            self.processes.on_main(lambda: self.preview.save(network, path))
        return {"preview": str(path.relative_to(self.folder.path))}

    def write_row(self, columns: dict[str, Any]) -> None:
        """Write a row of metrics, with these columns besides its own, and begin the next."""
        trainer, stopwatch = self.trainer, self.trainer.stopwatch
        stopwatch.lap("train")
        row = {
            "step": trainer.step,
            **trainer.window.row(self.config.validation_buckets),
            **self.learning_rates,
            "images_seen": trainer.images_seen,
            "images_per_second": trainer.window.num_samples / (stopwatch.of_steps - trainer.window.began),
            "num_processes": self.processes.count,
            "precision": self.processes.precision,
            "skipped_steps": trainer.stepper.skipped,
            "spikes": trainer.spikes.num_spikes,
            **columns,
            "seconds": {kind: round(value, 3) for kind, value in stopwatch.seconds.items()},
        }
        trainer.window = Window(began=stopwatch.of_steps)
        if self.processes.is_main:
            append_row(self.folder.metrics, row)
            self.trackers.log(row)
            self.progress.show(_figures(row))
            self.write_status("running")

    def write_status(self, state: Any) -> None:
        """Write `status.json`."""
        if self.processes.is_main:
            seconds = {kind: round(value, 3) for kind, value in self.trainer.stopwatch.seconds.items()}
            self.folder.write_status(state, step=self.trainer.step, max_steps=self.config.max_steps, seconds=seconds)


def _figures(row: dict[str, Any]) -> str:
    """Return what the display shows of a row of metrics."""
    figures = f"loss {row['loss']:.4f}, {row['images_per_second']:.0f} images/s"
    return figures + (f", validation loss {row['val_loss']:.4f}" if "val_loss" in row else "")


@contextmanager
def _failures_explained(recipe: Recipe, folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Turn what can end a run into an error that says what to do, and write it into `status.json`."""
    try:
        yield
    except Preempted as error:
        if processes.is_main:
            folder.write_status("preempted", message=str(error))
        raise
    except BaseException as error:
        known = explain_out_of_memory(error, recipe, processes.count)
        if processes.count > 1 and is_exchange_failure(error):
            known = explain(folder.heartbeats, processes.count, processes.rank, error)
        # If process 0 is the one that is gone, the others say so in its place.
        if processes.is_main or isinstance(known, ExchangeError):
            folder.write_status("failed", message=str(known or error) or type(error).__name__)
        if known is None:
            raise
        raise known from error


def _validation(trainer: Trainer, processes: Processes, val_set: "LatentDataset | None") -> Validation | None:
    config = trainer.recipe.train
    if val_set is None or len(val_set) == 0 or not config.validate_every:
        return None
    return Validation(
        dataset=val_set,
        source=trainer.stepper.source,
        process=with_fixed_times(trainer.stepper.objective.process),
        processes=processes,
        num_samples=min(len(val_set), config.validation_samples),
        num_buckets=config.validation_buckets,
        batch_size=_batch_size(trainer, processes),
        fills_up=trainer.is_compiled,
    )


def _preview(trainer: Trainer, processes: Processes) -> Preview:
    return Preview(
        process=trainer.stepper.objective.process,
        source=trainer.stepper.source,
        sampling=trainer.recipe.sampling,
        num_samples=trainer.recipe.train.preview_samples,
        batch_size=_batch_size(trainer, processes),
        processes=processes,
    )


def _batch_size(trainer: Trainer, processes: Processes) -> int:
    """Return the images that fit through the network at a time, as training shows."""
    config = trainer.recipe.train
    return config.batch_size // (processes.count * config.gradient_accumulation)

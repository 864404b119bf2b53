"""The parts of a run and its state: what a checkpoint holds, and how a run is put back to where it was.

A checkpoint holds everything that the rest of the run depends on and that is not a function of the recipe and the
step: weights, heads of auxiliary losses, averages, optimizer, gradient scaler, what an adaptive time law learnt, and
the sums of the open log window.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dit import checkpoint
from dit.checkpoint import Checkpoint
from dit.config import Recipe
from dit.display import warn
from dit.errors import DitError
from dit.run_files import HEADS
from dit.tensors import check_tensors
from dit.training.monitor.health import SpikeMonitor
from dit.training.monitor.log import Window
from dit.training.ranks.joint_checkpoint import save
from dit.training.ranks.processes import Processes
from dit.training.ranks.sharding import put
from dit.training.run.folder import RunFolder
from dit.training.step import Stepper
from dit.training.stopwatch import Stopwatch
from dit.training.weights.ema import PRIMARY, Ema
from dit.training.weights.optim import load_optimizer_state, optimizer_state

SNAPSHOT_TYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Start:
    """Where a run begins that goes on from another program's training file; the weights are the network's already."""

    origin: str
    """The file."""
    average: Mapping[str, Tensor]
    """Average of the weights."""
    moments: Mapping[str, Tensor]
    """AdamW's state, `<key>.<parameter>`; none where the file's is not AdamW's."""
    step: int
    """Optimizer steps made."""


@dataclass
class Trainer:
    """The state of a run in memory."""

    recipe: Recipe
    """The recipe, with what the data decided filled in."""
    model: nn.Module
    """The network, not wrapped."""
    ema: Ema
    """Averages of its weights."""
    stepper: Stepper
    """Optimizer steps."""
    is_compiled: bool = False
    """Whether the network's blocks are compiled."""
    step: int = 0
    """Optimizer steps made."""
    window: Window = field(default_factory=Window)
    """Sums since the last row of metrics."""
    spikes: SpikeMonitor = field(default_factory=lambda: SpikeMonitor(6.0))
    """Recent losses."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Where the time goes."""

    @property
    def processes(self) -> Processes:
        """Who takes part: all do in whatever reads or writes the state."""
        return self.stepper.processes

    @property
    def images_seen(self) -> int:
        """Training images used so far, over all processes."""
        return self.step * self.recipe.train.batch_size

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint, then delete the oldest beyond the number to keep."""
        config = self.recipe.train
        tensors, state = self.capture()
        is_kept = bool(config.keep_every) and self.step % config.keep_every == 0
        save(self.processes, folder.checkpoints, self.step, tensors, state, is_kept=is_kept)
        self.processes.on_main(lambda: checkpoint.prune(folder.checkpoints, config.keep_checkpoints))

    def save_if_best(self, folder: RunFolder, figures: dict[str, float]) -> None:
        """Keep the average in place of the best so far, if the Frechet distance of its samples is lower.

        Args:
            folder: the run's.
            figures: of the samples; those of the main process count.
        """
        if not self.processes.decide(lambda: _is_best(folder, figures)):
            return
        tensors = {PRIMARY: self.ema.tensors(PRIMARY)}
        if tensors[PRIMARY].keys() < self.model.state_dict().keys():
            tensors["model"] = self.model.state_dict()  # holds what is not trained
        save(self.processes, folder.best, self.step, tensors, {"images_seen": self.images_seen, **figures})
        self.processes.on_main(lambda: checkpoint.keep_only(folder.best, self.step))

    def save_snapshot(self, folder: RunFolder) -> None:
        """Write the power-function averages for `dit ema`."""
        dtype = SNAPSHOT_TYPES[self.recipe.ema.snapshot_precision]
        tensors = {
            name: {key: value.to(dtype) for key, value in self.ema.tensors(name).items()}
            for name in self.ema.power_names
        }
        save(self.processes, folder.snapshots, self.step, tensors, {"sigma_rels": list(self.recipe.ema.sigma_rels)})

    def capture(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return the tensors by file and everything else as JSON."""
        objective = self.stepper.objective
        optimizer, scalars = optimizer_state(self.stepper.optimizer, objective.trained)
        tensors = {"model": self.model.state_dict(), "optimizer": optimizer}
        if objective.heads is not None:
            tensors[HEADS] = objective.heads.state_dict()
        tensors |= {name: self.ema.tensors(name) for name in self.ema.averages}
        if learned := objective.process.time_law.state_dict():
            tensors["time_law"] = learned
        scaler = self.stepper.scaler
        state = {
            "step": self.step,
            "images_seen": self.images_seen,
            "optimizer": scalars,
            "scaler": None if scaler is None else scaler.state_dict(),
            "skipped_steps": self.stepper.skipped,
            "window": self.window.state(),
            "spikes": {"recent": self.spikes.recent, "num_spikes": self.spikes.num_spikes},
            "seconds": self.stopwatch.seconds,
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return tensors, state

    def begin_with(self, start: Start) -> None:
        """Go on from another program's training file.

        Raises:
            DitError: its tensors do not fit; names and both shapes are shown.
        """
        average = self.ema.network.state_dict()
        check_tensors(start.origin, average, start.average)
        for name, tensor in average.items():
            put(tensor, start.average[name])
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        moments = {label: value for label, value in start.moments.items() if label.partition(".")[2] in trained}
        reasons = {
            "the file's is none of AdamW's for these weights": not moments,
            f"optim.name is {self.recipe.optim.name}": self.recipe.optim.name.lower() != "adamw",
            "the auxiliary losses have heads": self.stepper.objective.heads is not None,
        }
        if reason := next((text for text, holds in reasons.items() if holds), None):
            warn(f"{start.origin}: the state of the optimizer begins anew, for {reason}")
        else:
            scalars = {"state": {}, "groups": [{}]}
            load_optimizer_state(self.stepper.optimizer, self.model, moments, scalars, origin=start.origin)
        self.step = start.step

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            DitError: it lacks a part, or its tensors do not fit; names and both shapes are shown.
        """
        objective = self.stepper.objective
        _copy_tensors(self.model.state_dict(), saved, "model")
        if objective.heads is not None:
            _copy_tensors(objective.heads.state_dict(), saved, HEADS)
        for name, average in self.ema.averages.items():
            self._restore_average(saved, name, average.network)
        origin = str(saved.path / "optimizer.safetensors")
        state = saved.state
        try:
            scalars = state["optimizer"]
            tensors = saved.tensors("optimizer")
            load_optimizer_state(self.stepper.optimizer, objective.trained, tensors, scalars, origin=origin)
            if expected := objective.process.time_law.state_dict():
                objective.process.time_law.load_state_dict(_fitting_tensors(expected, saved, "time_law"))
            if self.stepper.scaler is not None and state["scaler"] is not None:
                self.stepper.scaler.load_state_dict(state["scaler"])
            self.step = state["step"]
            self.stepper.skipped = state["skipped_steps"]
            self.window = Window(**{**state["window"], "terms": tuple(state["window"]["terms"])})
            self.spikes.recent, self.spikes.num_spikes = state["spikes"]["recent"], state["spikes"]["num_spikes"]
            self.stopwatch.seconds = state["seconds"]
        except KeyError as error:
            raise DitError(f"{saved.path / checkpoint.STATE}: expected the entry {error}, found none") from None
        self.stepper.attempts = deque()

    def _restore_average(self, saved: Checkpoint, name: str, network: nn.Module) -> None:
        if saved.holds(name):
            _copy_tensors(self.ema.tensors(name), saved, name)
        elif self.recipe.ema.restart:
            warn(f"{saved.path}: holds no average {name!r}; it begins anew from the weights, as ema.restart says")
            network.load_state_dict(self.model.state_dict())
        else:
            raise DitError(
                f"{saved.path}: expected the average {name!r}, found no {name}.safetensors; "
                "set ema.restart to begin it anew from the weights"
            )


def _copy_tensors(state: dict[str, Tensor], saved: Checkpoint, name: str) -> None:
    """Copy tensors of a checkpoint into a state dict's, in place."""
    for key, tensor in _fitting_tensors(state, saved, name).items():
        put(state[key], tensor)


def _is_best(folder: RunFolder, figures: dict[str, float]) -> bool:
    """Tell whether samples are better than those of the average that was kept."""
    try:
        best = checkpoint.load_newest(folder.best)
    except DitError as error:
        best = warn(f"{error}; it is replaced")
    return best is None or best.state["frechet_distance"] > figures["frechet_distance"]


def _fitting_tensors(expected: dict[str, Tensor], saved: Checkpoint, name: str) -> dict[str, Tensor]:
    """Return tensors of a checkpoint, whose names and shapes must be the expected ones."""
    found = saved.tensors(name)
    check_tensors(saved.path / f"{name}.safetensors", expected, found)
    return found

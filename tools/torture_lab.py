"""What the rows of the fault matrix need: real training processes, faults, and comparisons of what they leave.

A run in one process is forked from a server that has imported everything already: it is a process like any other, that
can be killed, without the seconds that importing takes. Runs in two processes are started by torchrun.
"""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
model: {name: dit_ti_2, hidden_size: 24, depth: 2, num_heads: 2}
data: {source: mnist, image_size: 32}
latents: {vae: mnist}
process: {name: flow, time_law: {name: adaptive}}
train: {max_steps: 12, batch_size: 16, log_every: 1, checkpoint_every: 4, validate_every: 0, preview_every: 0,
        trackers: []}
optim: {lr: 0.001, max_grad_norm: 1.0}
ema: {decay: 0.9, further_decays: [0.5], sigma_rels: [0.05, 0.1], snapshot_every: 6}
sampling: {solver: euler, steps: 1}
"""
PRELOADED = [
    "accelerate",
    "datasets",
    "diffusers.models.autoencoders.autoencoder_kl",
    "dit.training.loop",
    "dit.verbs.train",
    "dit.zoo.export",
    "mlxtend.data",
    "timm.optim",
    "timm.scheduler",
    "torch.distributed",
]
COMPARED = ("step", "loss", "loss_by_time", "grad_norm", "lr", "images_seen")
LIMIT = 900.0
"""Seconds after which a process counts as hung."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    text: str
    """What it printed."""
    seconds: float
    """How long it took."""

    @property
    def fired(self) -> bool:
        """Whether a failpoint says that it fired."""
        return "failpoint fired" in self.text

    @property
    def errors(self) -> list[str]:
        """The one-line errors."""
        return [line for line in self.text.splitlines() if line.startswith("dit: ") and "warning" not in line]


def expect(condition: object, message: str) -> None:
    """Fail the row with this message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def refused(outcome: Outcome, *words: str, code: int | None = None) -> None:
    """Expect a non-zero exit with a one-line error that holds these words (regular expressions), and no traceback."""
    expect(outcome.code != 0, "exit code 0")
    expect(code is None or outcome.code == code, f"exit code {outcome.code}, expected {code}: {outcome.errors}")
    text = "\n".join(outcome.errors)
    for word in words:
        expect(re.search(word, text), f"no {word!r} in {text or outcome.text[-600:]!r}")
    ours = outcome.text.split("torch/distributed/elastic")[0]  # torchrun shows a traceback of its own
    expect("Traceback (most recent call last)" not in ours, f"a traceback: {ours[-600:]}")


def completed(outcome: Outcome) -> None:
    """Expect exit code 0."""
    expect(outcome.code == 0, f"exit code {outcome.code}: {outcome.text[-600:]}")


class Forked:
    """A forked process, with the methods of `subprocess.Popen` that rows use."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("dit", timeout or 0.0)
        return self._process.exitcode


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    process: subprocess.Popen | Forked
    """The process."""
    log: Path
    """Where it prints."""
    began: float
    """When it was started."""

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self.process.pid

    def is_running(self) -> bool:
        """Tell whether it still runs."""
        return self.process.poll() is None

    def kill(self) -> Outcome:
        """Send SIGKILL and return how it ended."""
        self.process.kill()
        return self.wait()

    def wait(self) -> Outcome:
        """Wait for its end and return how it ended."""
        try:
            code = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {LIMIT:.0f} s") from None
        return Outcome(code, self.log.read_text(errors="replace"), time.monotonic() - self.began)


def run_dit(arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """Run a `dit` command in this forked process, printing to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.update(environment)
    os.chdir(ROOT)
    from dit.cli import main

    sys.exit(main(arguments))


@dataclass
class Lab:
    """A folder in which runs are made and broken."""

    work: Path
    """Everything is written below this folder."""
    num_runs: int = 0
    """Folders given out."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of every process."""

    def __post_init__(self) -> None:
        expect(not self.work.exists() or not any(self.work.iterdir()), f"{self.work} is not empty")
        self.work.mkdir(parents=True, exist_ok=True)
        self.recipe = self.work / "recipe.yaml"
        self.recipe.write_text(RECIPE)
        cache_folder = str(self.work / "cache")
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIT_CACHE": cache_folder, "PYTHONPATH": str(ROOT)}
        # The server of forks reads these when it starts, before it imports anything.
        os.environ.update(OMP_NUM_THREADS="1", DIT_CACHE=cache_folder)
        self.reference = cache(self._reference)

    def new(self, name: str = "run") -> Path:
        """Return a folder that does not exist yet."""
        self.num_runs += 1
        return self.work / f"{self.num_runs:03d}-{name}"

    def train(self, output: Path, *options: str, failpoint: str = "", resume: bool = False) -> Outcome:
        """Run `dit train` in one process."""
        return self.start(output, *options, failpoint=failpoint, resume=resume).wait()

    def resume(self, output: Path, *options: str, failpoint: str = "") -> Outcome:
        """Run the same command with --resume."""
        return self.train(output, *options, failpoint=failpoint, resume=True)

    def train_two(self, output: Path, *options: str, failpoint: str = "", resume: bool = False) -> Outcome:
        """Run `dit train` in two processes under torchrun."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, str(ROOT / "tools" / "train.py"), *self._arguments(output, options, resume)]
        return self._command(command, failpoint, {"ACCELERATE_USE_CPU": "true"}).wait()

    def train_ranks(self, output: Path, *options_of_rank: Sequence[str], failpoint: str = "") -> list[Outcome]:
        """Run `dit train` in as many processes as there are lists of options, without a launcher."""
        base = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": str(len(options_of_rank)), "MASTER_ADDR": "127.0.0.1"}
        base |= {"MASTER_PORT": str(20_000 + os.getpid() % 20_000)}
        processes = [
            self._command(
                [sys.executable, str(ROOT / "tools" / "train.py"), *self._arguments(output, options, resume=False)],
                failpoint,
                base | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, options in enumerate(options_of_rank)
        ]
        return [process.wait() for process in processes]

    def start(self, output: Path, *options: str, failpoint: str = "", resume: bool = False) -> Running:
        """Start `dit train` in one process and return at once."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        log = self._log()
        arguments = ["train", *self._arguments(output, options, resume)]
        environment = self.environment | {"DIT_FAILPOINT": failpoint}
        process = context.Process(target=run_dit, args=(arguments, environment, str(log)))
        process.start()
        return Running(Forked(process), log, time.monotonic())

    def python(self, *arguments: str) -> Outcome:
        """Run Python."""
        return self._command([sys.executable, *arguments], "").wait()

    def _reference(self, *options: str) -> Path:
        output = self.new("reference")
        completed(self.train(output, *options))
        return output

    def copy_of_reference(self, *options: str) -> Path:
        """Return a copy of the uninterrupted run with these options, to be damaged."""
        output = self.new("copy")
        shutil.copytree(self.reference(*options), output)
        return output

    def _arguments(self, output: Path, options: Sequence[str], resume: bool) -> list[str]:
        return [str(self.recipe), "--output", str(output), *options, *(["--resume"] if resume else [])]

    def _log(self) -> Path:
        return self.new("log").with_suffix(".txt")

    def _command(self, command: list[str], failpoint: str, extra: Mapping[str, str] | None = None) -> Running:
        environment = self.environment | {"DIT_FAILPOINT": failpoint} | dict(extra or {})
        log = self._log()
        # A file rather than a pipe: a grandchild that outlives its parent would keep a pipe open.
        with open(log, "wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
        return Running(process, log, time.monotonic())


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    """Return the loss of each row."""
    return [row["loss"] for row in rows(run)]


def status(run: Path) -> str:
    """Return the state that a run's status file names."""
    return json.loads((run / "status.json").read_text())["state"]


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoint folders, the oldest first."""
    return sorted(path for path in (run / "checkpoints").iterdir() if path.name.startswith("step-"))


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    from dit.files import sha256

    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def same_end(run: Path, reference: Path) -> None:
    """Expect two runs to have the same rows, and the same weights, averages and optimizer state to the last bit."""
    for ours, theirs in zip(rows(run), rows(reference), strict=True):
        for key in COMPARED:
            expect(ours[key] == theirs[key], f"step {theirs['step']}: {key} {ours[key]} instead of {theirs[key]}")
    ours, theirs = (
        {name: digest for name, digest in hashes(checkpoints(folder)[-1]).items() if name.endswith(".safetensors")}
        for folder in (run, reference)
    )
    expect(ours == theirs, f"final tensors differ: {[name for name in theirs if ours.get(name) != theirs[name]]}")
    expect(not list(run.rglob(".tmp-*")), "a temporary folder was left")


def save_changed(checkpoint_folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Write a checkpoint anew after a change to its tensors (file -> name -> tensor) and state, manifest included."""
    from safetensors.torch import load_file

    from dit import checkpoint

    tensors = {path.stem: load_file(path) for path in checkpoint_folder.glob("*.safetensors")}
    state = json.loads((checkpoint_folder / "state.json").read_text())
    step = int(checkpoint_folder.name.removeprefix("step-"))
    change(tensors, state)
    shutil.rmtree(checkpoint_folder)
    checkpoint.save(checkpoint_folder.parent, step, tensors, state)

"""The rows of the fault matrix: each injects one fault into real training processes and checks what comes of it.

A row returns whether its fault fired, and raises AssertionError where the outcome is not the promised one.
"""

import json
import random
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

from torture_lab import (
    Lab,
    Running,
    checkpoints,
    completed,
    expect,
    hashes,
    losses,
    refused,
    rows,
    same_end,
    save_changed,
    status,
)

Row = Callable[[Lab], bool]
ROWS: dict[str, Row] = {}
SHORT = ("T1", "T3", "T4", "T5", "T7", "T11", "T15", "T18", "C4", "C5", "C8", "D1")
"""The rows of the short form."""


def row(name: str) -> Callable[[Row], Row]:
    """Enter a function as a row of the matrix; its docstring is the fault."""

    def enter(function: Row) -> Row:
        ROWS[name] = function
        return function

    return enter


def killed_and_resumed(lab: Lab, site: str, *options: str) -> bool:
    """Kill a run at a site, resume it, and compare it with the uninterrupted one."""
    output = lab.new()
    outcome = lab.train(output, *options, failpoint=f"{site}:kill")
    expect(outcome.code == -signal.SIGKILL, f"exit code {outcome.code}, expected to be killed: {outcome.text[-300:]}")
    before = {path: hashes(path) for path in checkpoints(output)} if (output / "checkpoints").exists() else {}
    completed(lab.resume(output, *options))
    for path, content in before.items():
        expect(not path.exists() or hashes(path) == content, f"{path.name} was changed")
    same_end(output, lab.reference(*options))
    return outcome.fired


@row("T1")
def kill_at_a_random_step(lab: Lab) -> bool:
    """Kill -9 at a random step."""
    return killed_and_resumed(lab, f"step-{random.randrange(1, 12)}-rank-0-micro-0")


@row("T2")
def kill_twice(lab: Lab) -> bool:
    """Kill -9 twice in one epoch."""
    output = lab.new()
    first = lab.train(output, failpoint="step-6-rank-0-micro-0:kill")
    second = lab.resume(output, failpoint="step-9-rank-0-micro-0:kill")
    completed(lab.resume(output))
    same_end(output, lab.reference())
    return first.fired and second.fired


@row("T3")
def kill_during_accumulation(lab: Lab) -> bool:
    """Kill during gradient accumulation."""
    return killed_and_resumed(lab, "step-5-rank-0-micro-1", "--train.gradient_accumulation", "2")


@row("T4")
def sigterm(lab: Lab) -> bool:
    """SIGTERM."""
    output = lab.new()
    outcome = lab.train(output, failpoint="step-5-rank-0-micro-0:signal=TERM")
    refused(outcome, "stopped by a signal after step 6", code=75)
    expect(checkpoints(output)[-1].name == "step-00000006", f"saved {checkpoints(output)[-1].name}")
    expect(status(output) == "preempted", f"status {status(output)}")
    completed(lab.resume(output))
    same_end(output, lab.reference())
    return outcome.fired


@row("T5")
def sigusr1_to_one_rank(lab: Lab) -> bool:
    """SIGUSR1 to one rank only."""
    output = lab.new()
    outcomes = lab.train_ranks(output, [], [], failpoint="step-5-rank-1-micro-0:signal=USR1")
    for outcome in outcomes:
        refused(outcome, "stopped by a signal after step 6", code=75)
    expect(status(output) == "preempted", f"status {status(output)}")
    expect(checkpoints(output)[-1].name == "step-00000006", f"saved {checkpoints(output)[-1].name}")
    expect((checkpoints(output)[0] / "manifest.json").exists(), "the older checkpoint is not whole")
    return not outcomes[0].fired and outcomes[1].fired


@row("T6")
def second_sigterm(lab: Lab) -> bool:
    """Second SIGTERM while saving."""
    output = lab.new()
    outcome = lab.train(output, failpoint="step-5-rank-0-micro-0:signal=TERM,checkpoint-6:model:signal=TERM")
    refused(outcome, "stopped by a signal", code=75)
    completed(lab.resume(output))
    same_end(output, lab.reference())
    return outcome.text.count("failpoint fired") == 2


@row("T7")
def nan_on_one_rank(lab: Lab) -> bool:
    """NaN loss on one rank."""
    output = lab.new()
    outcome = lab.train_two(output, failpoint="step-5-rank-1-micro-0:nan")
    refused(outcome, r"step 6: found a loss that is not finite in 1 samples of process 1; nothing was updated")
    expect(len(outcome.errors) == 2, f"{len(outcome.errors)} processes said why they stopped, expected 2")
    dump = json.loads((output / "bad-step-6-rank-1.json").read_text())
    expect([sample["position"] for sample in dump["samples"]] == [88], f"dump {dump}")
    expect(checkpoints(output)[-1].name == "step-00000004", "a checkpoint after the fault")
    expect(status(output) == "failed", f"status {status(output)}")
    return outcome.fired


@row("T8")
def infinite_gradient(lab: Lab) -> bool:
    """Inf gradient, in one process and in one of two."""
    two = lab.new()
    of_two = lab.train_two(two, "--train.timeout", "30", failpoint="gradient-5-rank-1:inf")
    refused(of_two, "step 6: found a gradient norm of inf; nothing was updated")
    expect(len(of_two.errors) == 2, f"{len(of_two.errors)} processes said why they stopped, expected 2")
    expect(status(two) == "failed", f"status {status(two)}")
    output = lab.new()
    outcome = lab.train(output, failpoint="gradient-5-rank-0:inf")
    refused(outcome, "step 6: found a gradient norm of inf; nothing was updated", code=1)
    dump = json.loads((output / "bad-step-6-rank-0.json").read_text())
    expect([sample["position"] for sample in dump["samples"]] == list(range(80, 96)), f"dump {dump}")
    completed(lab.resume(output))
    same_end(output, lab.reference())
    return outcome.fired and of_two.fired


@row("T9")
def fp16_overflow(lab: Lab) -> bool:
    """Fp16 overflow (GradScaler on the CPU; fp16 recipes are refused)."""
    tests = ["-m", "pytest", "-v", "-o", "addopts=--import-mode=importlib", "tests/training/test_step.py"]
    outcome = lab.python(*tests, "-k", "scaler_skips_an_overflow")
    completed(outcome)
    refused(lab.train(lab.new(), "--train.mixed_precision", "fp16"), r"fp16 needs a GPU", code=2)
    return "1 passed" in outcome.text


@row("T10")
def spike(lab: Lab) -> bool:
    """Loss spike beyond 6 sigma."""
    options = ("--train.max_steps", "60", "--train.checkpoint_every", "20")
    warned = lab.train(lab.new(), *options, failpoint="step-55-rank-0-micro-0:1e6")
    completed(warned)
    expect("dit: warning: step 56: the loss rose to" in warned.text, "no warning")
    stopped = lab.train(lab.new(), *options, "--train.on_spike", "stop", failpoint="step-55-rank-0-micro-0:1e6")
    refused(stopped, "step 56: the loss rose to .* standard deviations above", code=1)
    return warned.fired and stopped.fired


@row("T11")
def rank_killed(lab: Lab) -> bool:
    """One rank SIGKILLed."""
    output = lab.new()
    outcome = lab.train_two(output, "--train.timeout", "30", failpoint="step-6-rank-1-micro-0:kill")
    refused(outcome, r"process 0: .*process 1 \(pid \d+ on .*\) is gone, last seen at step")
    expect(status(output) == "failed", f"status {status(output)}")
    expect(checkpoints(output)[-1].name == "step-00000004", "no checkpoint")
    return outcome.fired


@row("T12")
def rank_stopped(lab: Lab) -> bool:
    """One rank SIGSTOPped."""
    output = lab.new()
    outcome = lab.train_two(output, "--train.timeout", "15", failpoint="step-6-rank-1-micro-0:signal=STOP")
    refused(outcome, r"process 0: .*process 1 \(pid \d+ on .*\) is silent for \d+ s, last seen at step")
    expect(status(output) == "failed", f"status {status(output)}")
    return outcome.fired


@row("T13")
def different_configurations(lab: Lab) -> bool:
    """Ranks with different configurations."""
    output = lab.new()
    outcomes = lab.train_ranks(output, [], ["--optim.lr", "0.5"])
    for outcome in outcomes:
        refused(outcome, r"optim\.lr: expected 0\.001 as in process 0, found 0\.5 in process 1", code=2)
    expect(not output.exists(), "a run folder was made")
    return True


@row("T14")
def changing_process_count(lab: Lab) -> bool:
    """Resume 2 -> 1 -> 2 processes."""
    options = ("--train.max_steps", "50", "--train.checkpoint_every", "25")
    output = lab.new()
    first = lab.train_two(output, *options, failpoint="step-15-rank-0-micro-0:signal=TERM")
    second = lab.resume(output, *options, failpoint="step-31-rank-0-micro-0:signal=TERM")
    completed(lab.train_two(output, *options, resume=True))
    found, expected = losses(output), losses(lab.reference(*options))
    expect([row["num_processes"] for row in rows(output)] == [2] * 16 + [1] * 16 + [2] * 18, "process counts")
    worst = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    expect(worst < 1e-5, f"losses differ by {worst:.1e}")
    return first.fired and second.fired


@row("T15")
def changed_recipe(lab: Lab) -> bool:
    """Resume with another batch size, data set or model."""
    output = lab.copy_of_reference()
    before = hashes(output / "checkpoints")
    for field, value, words in (
        ("train.batch_size", "8", r"train\.batch_size: the run has 16, found 8"),
        ("data.image_size", "40", r"data\.image_size: the run has 32, found 40"),
        ("model.depth", "3", r"model\.depth: the run has 2, found 3"),
    ):
        refused(lab.resume(output, f"--{field}", value), words, code=2)
    expect(hashes(output / "checkpoints") == before, "checkpoints were changed")
    return True


@row("T16")
def out_of_memory(lab: Lab) -> bool:
    """Out of memory."""
    output = lab.new()
    outcome = lab.train(output, failpoint="step-6-rank-0-micro-0:oom")
    refused(outcome, r"out of memory with 16 images at a time .* of latent size \[8, 8\], 32 pixels", code=1)
    completed(lab.resume(output))
    same_end(output, lab.reference())
    return outcome.fired


@row("T17")
def tracker_unreachable(lab: Lab) -> bool:
    """Tracker unreachable."""
    output = lab.new()
    outcome = lab.train(output, "--train.trackers", "[wandb]")
    completed(outcome)
    same_end(output, lab.reference())
    return "the tracker wandb could not be started" in outcome.text


@row("T18")
def two_runs_in_one_folder(lab: Lab) -> bool:
    """Two runs in one folder."""
    output = lab.new()
    first = lab.start(output, failpoint="step-5-rank-0-micro-0:sleep=60")
    try:
        _wait_for(lambda: len(rows_so_far(output)) == 5, first, 0.2)
        before = hashes(output)
        refused(lab.resume(output), f"another run is writing here .process {first.pid} on ", code=2)
        refused(lab.train(output), "expected a new or empty folder|another run is writing", code=2)
        expect(first.is_running() and hashes(output) == before, "the first run was disturbed")
    finally:
        outcome = first.kill()
    return outcome.fired


CHECKPOINT_SITES = (
    *(f"checkpoint-8:{name}" for name in ("model", "optimizer", "ema", "power-0.05", "state", "manifest", "renamed")),
    "rename:step-00000008",
    "checkpoint-4:prune",
    "checkpoint-6:power-0.1",  # a snapshot
    "rename:step-00000006",
    "write:status.json",
)


@row("C1")
def kill_at_each_write(lab: Lab) -> bool:
    """Kill at each write failpoint."""
    return all(killed_and_resumed(lab, site) for site in CHECKPOINT_SITES)


@row("C2")
def disk_full(lab: Lab) -> bool:
    """Disk full."""
    fired = True
    for site in ("checkpoint-8:model", "checkpoint-8:manifest", "rename:step-00000008"):
        output = lab.new()
        outcome = lab.train(output, failpoint=f"{site}:enospc")
        refused(outcome, r"step-00000008: this checkpoint could not be written \(No space left on device\)", code=1)
        expect([path.name for path in checkpoints(output)] == ["step-00000004"], "not the older checkpoint alone")
        expect(not list(output.rglob(".tmp-*")), "a temporary folder was left")
        completed(lab.resume(output))
        same_end(output, lab.reference())
        fired &= outcome.fired
    return fired


def damage(path: Path, *, flip: bool = False) -> None:
    """Flip the last bit of a file, or cut its last byte off."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if flip else data[:-1])


def falls_back(lab: Lab, output: Path, why: str) -> bool:
    """Resume a run whose newest checkpoint is damaged: it says why, and ends as if nothing had happened."""
    outcome = lab.resume(output)
    completed(outcome)
    expect("a newer checkpoint was passed over" in outcome.text and why in outcome.text, f"not said: {why}")
    same_end(output, lab.reference())
    return True


@row("C3")
def newest_truncated(lab: Lab) -> bool:
    """Newest checkpoint truncated."""
    output = lab.copy_of_reference()
    damage(checkpoints(output)[-1] / "model.safetensors")
    return falls_back(lab, output, "bytes, found")


@row("C4")
def bit_flip(lab: Lab) -> bool:
    """Bit flip in the newest checkpoint."""
    output = lab.copy_of_reference()
    damage(checkpoints(output)[-1] / "optimizer.safetensors", flip=True)
    return falls_back(lab, output, "SHA-256")


@row("C5")
def all_corrupt(lab: Lab) -> bool:
    """All checkpoints corrupt."""
    output = lab.copy_of_reference()
    for path in checkpoints(output):
        damage(path / "ema.safetensors", flip=True)
    before = hashes(output / "checkpoints")
    refused(lab.resume(output), "expected at least one whole checkpoint, found none", code=1)
    expect(hashes(output / "checkpoints") == before, "checkpoints were changed")
    return True


@row("C6")
def state_missing(lab: Lab) -> bool:
    """State file missing."""
    output = lab.copy_of_reference()
    for path in checkpoints(output):
        (path / "state.json").unlink()
    refused(lab.resume(output), r"state\.json: expected a file, found none", code=1)
    return True


@row("C7")
def tensors_that_do_not_fit(lab: Lab) -> bool:
    """Wrong shape, missing, extra tensors."""
    import torch

    name = "x_embedder.proj.bias"
    for change, words in (
        (lambda tensors, state: tensors["model"].update({name: torch.zeros(7)}), r"shape \(7,\), expected \(24,\)"),
        (lambda tensors, state: tensors["model"].pop(name), f"expected the tensor {name}, found none"),
        (lambda tensors, state: tensors["model"].update(extra=torch.zeros(1)), "found the tensor extra"),
    ):
        output = lab.copy_of_reference()
        save_changed(checkpoints(output)[-1], change)
        refused(lab.resume(output), r"model\.safetensors: .*" + words, code=1)
    return True


PICKLE = """
import pickle, sys
class Malicious:
    def __reduce__(self):
        return (open, (sys.argv[1], "w"))
for path in sys.argv[2:]:
    open(path, "wb").write(pickle.dumps(Malicious()))
"""


def rewrite_manifest(folder: Path) -> None:
    """Make the manifest agree with the files, as an attacker would."""
    from dit.files import sha256

    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry.update(bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
    (folder / "manifest.json").write_text(json.dumps(manifest))


@row("C8")
def malicious_pickle(lab: Lab) -> bool:
    """Malicious .pt or side file."""
    output, sentinel = lab.copy_of_reference(), lab.new("sentinel")
    newest = checkpoints(output)[-1]
    victims = [newest / name for name in ("model.safetensors", "model.pt", "custom_checkpoint_0.pkl")]
    completed(lab.python("-c", PICKLE, str(sentinel), *map(str, victims)))
    rewrite_manifest(newest)
    refused(lab.resume(output), r"model\.safetensors: expected safetensors", code=1)
    expect(not sentinel.exists(), "the pickle's code ran")
    completed(lab.python("-c", f"import pickle; pickle.load(open({str(victims[0])!r}, 'rb'))"))
    return sentinel.exists()  # the trap works where a pickle is opened


@row("C9")
def hostile_headers(lab: Lab) -> bool:
    """Hostile safetensors headers."""

    def content(entries: dict, data: int) -> bytes:
        header = json.dumps(entries).encode()
        return struct.pack("<Q", len(header)) + header + bytes(data)

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    cases = {
        "length 2^63": struct.pack("<Q", 2**63) + b"{}",
        "overlap": content({"a": entry, "b": {**entry, "data_offsets": [4, 12]}}, 12),
        "trailing bytes": content({"a": entry}, 64),
        "duplicate names": content({"a": entry, "@": entry}, 8).replace(b'"@"', b'"a"'),
    }
    output = lab.copy_of_reference()
    newest = checkpoints(output)[-1]
    for name, data in cases.items():
        (newest / "model.safetensors").write_bytes(data)
        rewrite_manifest(newest)
        outcome = lab.resume(output)
        refused(outcome, r"model\.safetensors", code=1)
        expect("MemoryError" not in outcome.text, name)
    return True


@row("C10")
def stray_names(lab: Lab) -> bool:
    """Stray step-foo, symlinked step folder."""
    output, elsewhere = lab.copy_of_reference(), lab.new("elsewhere")
    shutil.copytree(checkpoints(output)[-1], elsewhere)
    before = hashes(elsewhere)
    (output / "checkpoints" / "step-foo").mkdir()
    (output / "checkpoints" / "step-00000099").symlink_to(elsewhere)
    longer = ("--train.max_steps", "16")
    completed(lab.resume(output, *longer))
    names = {path.name for path in checkpoints(output)}
    expect({"step-foo", "step-00000099", "step-00000016"} <= names, f"found {names}")
    expect(hashes(elsewhere) == before, "what the link points to was changed")
    return True


@row("C11")
def read_only_folder(lab: Lab) -> bool:
    """Folder that can not be written."""
    outcome = lab.train(Path("/proc/dit-torture"))
    refused(outcome, "/proc/dit-torture: expected a folder that can be written", code=2)
    expect("step 1/" not in outcome.text, "it trained first")
    return True


@row("C12")
def without_average(lab: Lab) -> bool:
    """Resume without EMA."""
    output = lab.copy_of_reference()
    for path in checkpoints(output):
        save_changed(path, lambda tensors, state: tensors.pop("ema"))
    longer = ("--train.max_steps", "16")
    refused(lab.resume(output, *longer), r"no ema\.safetensors; set ema\.restart", code=1)
    completed(lab.resume(output, *longer, "--ema.restart", "true"))
    return True


def make_images(folder: Path, num: int = 40) -> Path:
    """Write a folder of small JPEGs in two classes."""
    import numpy as np
    from PIL import Image

    for index in range(num):
        path = folder / ("cat", "dog")[index % 2] / f"{index:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return folder


def image_options(folder: Path) -> tuple[str, ...]:
    """Return the options of two steps on a folder of images."""
    return ("--data.source", str(folder), "--data.image_size", "32", "--train.max_steps", "2")


def bad_image(lab: Lab, change: Callable[[Path], object], words: str) -> bool:
    """Break one image of a folder: named by default; with on_error skip counted, listed, and the run goes on."""
    folder = make_images(lab.new("images"))
    bad = folder / "cat" / "004.jpg"
    change(bad)
    output = lab.new()
    refused(lab.train(output, *image_options(folder)), r"004\.jpg", words, code=1)
    skip = ("--data.on_error", "skip", "--data.max_skipped", "0.1")
    outcome = lab.train(output, *image_options(folder), *skip)
    completed(outcome)
    expect("skipped 1 images, listed in" in outcome.text, f"not counted: {outcome.text[-400:]}")
    refused(lab.train(lab.new(), *image_options(folder), *skip[:3], "0.001"), r"max_skipped", code=1)
    return True


@row("D1")
def truncated_jpeg(lab: Lab) -> bool:
    """Truncated JPEG."""
    return bad_image(lab, lambda path: path.write_bytes(path.read_bytes()[:300]), "")


@row("D2")
def empty_file(lab: Lab) -> bool:
    """Empty file."""
    return bad_image(lab, lambda path: path.write_bytes(b""), "")


@row("D3")
def pixel_bomb(lab: Lab) -> bool:
    """Pixel bomb."""
    from PIL import Image

    def write_bomb(path: Path) -> None:
        Image.new("1", (60_000, 60_000)).save(path, format="PNG")

    return bad_image(lab, write_bomb, "pixels")


@row("D4")
def bad_label(lab: Lab) -> bool:
    """Label missing or out of range."""
    import numpy as np
    from datasets import Dataset, Features, Image, Value, disable_progress_bars

    disable_progress_bars()
    pixels = [np.full((32, 32, 3), index, dtype=np.uint8) for index in range(40)]
    features = Features({"image": Image(), "label": Value("int64")})
    for bad in (-5, None):
        folder = lab.new("parquet")
        folder.mkdir()
        labels: list[int | None] = [index % 2 for index in range(40)]
        labels[7] = bad
        Dataset.from_dict({"image": pixels, "label": labels}, features=features).to_parquet(folder / "train.parquet")
        outcome = lab.train(lab.new(), *image_options(folder))
        refused(outcome, rf"record 7: label: expected .*0.*1.*, found {bad}$", code=1)
    return True


@row("D7")
def too_few_samples(lab: Lab) -> bool:
    """Empty data set, or fewer samples than one batch."""
    few = make_images(lab.new("images"), num=8)
    refused(lab.train(lab.new(), *image_options(few)), r"train\.batch_size: expected at most .* found 16", code=2)
    empty = lab.new("empty")
    empty.mkdir()
    outcome = lab.train(lab.new(), *image_options(empty))
    refused(outcome, str(empty))
    return True


@row("D10")
def loader_killed(lab: Lab) -> bool:
    """Process killed while it encodes for the others."""
    folder = make_images(lab.new("images"))
    options = (*image_options(folder), "--train.timeout", "30")
    outcome = lab.train_two(lab.new(), *options, failpoint="encode:part-00000.safetensors:kill")
    expect(outcome.code != 0, "exit code 0")
    expect(outcome.seconds < 120, f"took {outcome.seconds:.0f} s")
    completed(lab.train_two(lab.new(), *options))  # D12: the same command finishes the encoding
    return outcome.fired


def kill_at_random_moments(lab: Lab, num_kills: int) -> bool:
    """Show 2: kill -9 at random moments of one run of 200 steps, also while it writes, and compare the end.

    The moments are spread over the whole run; every second kill waits from its moment for the next checkpoint and
    hits the process while it writes that.
    """
    options = ("--train.max_steps", "200", "--train.checkpoint_every", "10")
    reference = lab.reference(*options)
    output = lab.new("killed")
    draw = random.Random(0)
    kills = in_writes = 0
    for number, moment in enumerate(sorted(draw.uniform(0, 190) for _ in range(num_kills))):
        process = lab.start(output, *options, resume=True)
        _wait_for_step(output, process, int(moment))
        if number % 2:
            _wait_for(lambda: bool(unfinished_checkpoints(output)), process, 0.0005)
        else:
            time.sleep(0.05 * (moment % 1))  # anywhere within the step
        if not process.is_running():
            break
        process.kill()
        kills += 1
        torn = unfinished_checkpoints(output)
        in_writes += bool(torn)
        where = f"while it wrote {torn[0].removeprefix('.tmp-').split('.')[0]}" if torn else "outside checkpoint writes"
        print(f"    kill {kills}: after {len(rows_so_far(output))} steps, {where}", flush=True)
    completed(lab.resume(output, *options))
    same_end(output, reference)
    digest = hashes(checkpoints(output)[-1])["model.safetensors"]
    print(f"    {kills} kills, {in_writes} of them while a checkpoint was being written")
    print(f"    {len(rows(output))} losses and the final weights (sha256 {digest[:16]}) equal the uninterrupted run's")
    return kills == num_kills and in_writes >= num_kills // 4


def unfinished_checkpoints(output: Path) -> list[str]:
    """Return the names of the temporary folders of checkpoints that are being written."""
    return [path.name for path in (output / "checkpoints").glob(".tmp-*")]


def rows_so_far(output: Path) -> list[str]:
    """Return the lines of a run's metrics, the last of them possibly torn."""
    path = output / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _wait_for_step(output: Path, process: Running, step: int) -> None:
    def is_reached() -> bool:
        # The rows of the process that was killed before count only once this one has cut them to its checkpoint.
        if not (output / "status.json").exists():
            return False
        is_its_own = json.loads((output / "status.json").read_text())["pid"] == process.pid
        return is_its_own and len(rows_so_far(output)) >= step

    _wait_for(is_reached, process, 0.01)


def _wait_for(condition: Callable[[], bool], process: Running, pause: float) -> None:
    while process.is_running() and not condition():
        time.sleep(pause)

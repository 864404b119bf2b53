"""`scaling`: a training step of two processes against that of one, each with a batch of its own (weak scaling).

The ratio is the efficiency: the seconds of one process alone over those of two that exchange gradients (none), or deal
the weights among them (fsdp2). On a CPU each has one thread; on GPUs each has one, and there have to be two. In a round
the first process makes steps alone while the other sleeps, then both make theirs together.
"""

import os
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from dit.bench.harness import Row, Run, quartiles, timed
from dit.bench.peers import inputs, network
from dit.bench.settings import Settings
from dit.bench.train_step import DECAY, WHOLE, training_step
from dit.errors import DitError
from dit.models.network import hidden_matrices, narrowest_width
from dit.training.config import EmaConfig, TrainConfig
from dit.training.ranks.processes import start_processes
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer

CASES = (("dit_s_4", 16),)
SHARDS = ("none", "fsdp2")
NUM_PROCESSES, NUM_STEPS = 2, 3
TIMEOUT = 600.0


def run(settings: Settings) -> Iterator[Row]:
    """Measure every case, whole weights and dealt ones."""
    if settings.device.type == "cuda" and torch.cuda.device_count() < NUM_PROCESSES:
        settings.say(f"scaling: skipped, it needs {NUM_PROCESSES} GPUs")
        return
    for name, batch, share in settings.cases(CASES):
        settings.say(f"scaling {name}, batch {batch} a process, train.shard {', '.join(SHARDS)}")
        for shard, pairs in _in_processes(name, batch, share).items():
            alone, together = (list(side) for side in zip(*pairs, strict=True))
            low, ratio, high = quartiles([a / b for a, b in pairs])
            ours, theirs = (1e3 * statistics.median(side) for side in (together, alone))
            case = f"{name} batch {batch} a process, {NUM_PROCESSES} processes, train.shard {shard}"
            yield Row("scaling", case, "1 process", ratio, low, high, ours, theirs, len(pairs))


def _in_processes(name: str, batch: int, settings: Settings) -> dict[str, list[tuple[float, float]]]:
    """Return, by `train.shard`, the seconds of a step of one process and of several, for each round.

    Raises:
        DitError: a process failed; it has said why.
    """
    context = torch.multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [
        context.Process(target=_measure, args=(rank, port, name, batch, settings, sender))
        for rank in range(NUM_PROCESSES)
    ]
    for child in children:
        child.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(TIMEOUT + settings.budget) else None
    except EOFError:
        found = None
    for child in children:
        child.join(TIMEOUT if found else 1)
        child.kill()
    if found is None:
        raise DitError(f"scaling: expected {NUM_PROCESSES} processes to end well, found that one failed or hung")
    return found


def _measure(rank: int, port: int, name: str, batch: int, settings: Settings, sender: Connection) -> None:
    """Run as one of the processes, and let the first one send the rounds."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(NUM_PROCESSES)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(NUM_PROCESSES)}
    if settings.device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        torch.set_num_threads(1)
    found = {shard: _rounds(*_steps(name, batch, shard, settings), rank, settings) for shard in SHARDS}
    if rank == 0:
        sender.send(found)
    dist.barrier()
    dist.destroy_process_group()


def _rounds(
    alone: Run, together: Run, device: torch.device, rank: int, settings: Settings
) -> list[tuple[float, float]]:
    """Return the seconds of a step of this process alone and of one of all, for each round but the first."""

    def seconds(step: Run) -> float:
        return timed(lambda: [step() for _ in range(NUM_STEPS)], device) / NUM_STEPS

    pairs: list[tuple[float, float]] = []
    deadline, goes_on = time.perf_counter() + settings.budget / len(SHARDS), torch.ones(1, device=device)
    while goes_on.item():
        dist.barrier()
        first = seconds(alone) if rank == 0 else 0.0
        dist.barrier()
        pairs.append((first, seconds(together)))
        has_time = time.perf_counter() < deadline and len(pairs) <= settings.rounds
        goes_on.fill_(float(has_time or len(pairs) < 2))
        dist.broadcast(goes_on, 0)
    return pairs[1:]


def _steps(name: str, batch: int, shard: str, settings: Settings) -> tuple[Run, Run, torch.device]:
    """Return a step of this process alone, one of all processes, and the device."""
    width = narrowest_width(network(name, replace(settings, device=torch.device("meta"))))
    train = TrainConfig(batch_size=batch * NUM_PROCESSES, shard=shard)  # pyright: ignore[reportArgumentType]
    processes = start_processes(train, width)
    settings = replace(settings, device=processes.device)
    is_half = processes.precision == "bf16"
    steps = []
    for is_shared in (False, True):
        model = network(name, settings)
        average = Ema(model, EmaConfig(decay=DECAY))
        prepared = processes.prepare(model, is_static=True) if is_shared else model
        if is_shared and processes.mesh is not None:
            average.shard(processes.shard)
        average.restart(model)
        optimizer = create_optimizer(model, WHOLE, hidden_matrices(model))
        counter = iter(range(1, 10**9))

        def update(average: Ema = average, counter: Iterator[int] = counter) -> None:
            average.update(next(counter))

        arguments = inputs(model, batch, settings.device)
        steps.append(training_step(prepared, optimizer, update, arguments, autocast=is_half and not is_shared))
    return *steps, settings.device

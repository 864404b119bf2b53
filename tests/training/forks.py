"""Training processes that are forked from one that has imported everything: a run of two takes a second or two."""

import json
import multiprocessing
import os
import runpy
import socket
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = os.path.join(os.path.dirname(__file__), "train_fake.py")
IMPORTED = ["dit.training.loop", "timm.optim", "accelerate", "torch.distributed.fsdp", "torch.distributed.tensor"]


def fork(script=SCRIPT, **values):
    """Run a script, which finds these values among its globals, in a process that can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=runpy.run_path, args=(str(script), values, "__main__"))
    process.start()
    return process


def free_port():
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass
class Done:
    """How processes ended."""

    codes: list[int]
    """Exit code of each."""
    said: list[str]
    """What each wrote to stderr."""
    seconds: float
    """That they took."""


def start(count, folder, script=SCRIPT, *, env=None, local=None, **values):
    """Start processes that train together, as a launcher would, without one that watches over them.

    Args:
        count: of processes.
        folder: new files are written here, what process r says as `stderr-r`.
        script: that each runs.
        env: further variables.
        local: of them those of one machine; all.
        values: what the script finds among its globals.
    """
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    shared |= {"LOCAL_WORLD_SIZE": str(local or count), "ACCELERATE_USE_CPU": "true"} | (env or {})
    Path(folder).mkdir(exist_ok=True, parents=True)
    processes = []
    for rank in range(count):
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank % (local or count))}
        said = Path(folder) / f"stderr-{rank}"
        said.unlink(missing_ok=True)
        processes.append(fork(script, ENVIRONMENT=own, STDERR=str(said), **values))
    return processes


def end(processes, folder, seconds=120.0):
    """Wait for processes, and end those that hang."""
    begun = time.monotonic()
    for process in processes:
        process.join(max(0.0, begun + seconds - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    said = [(Path(folder) / f"stderr-{rank}").read_text() for rank in range(len(processes))]
    assert None not in codes, f"it hangs: {codes}; {said}"
    return Done(codes, said, time.monotonic() - begun)


def train_in(count, output, *flags, env=None, local=None, **overrides):
    """Train in processes of their own, and return how they ended."""
    folder = output.with_name(f"{output.name}-processes")
    arguments = [str(output), json.dumps(overrides), *flags]
    return end(start(count, folder, env=env, local=local, ARGUMENTS=arguments), folder)

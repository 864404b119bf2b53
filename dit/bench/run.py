"""All benchmarks by name, and their results as JSON."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dit.bench.harness import Row
from dit.bench.names import choose
from dit.bench.settings import Settings, pin_threads

RESULTS = Path("tools") / "results"


def run(name: str, settings: Settings) -> Iterator[Row]:
    """Run one benchmark, or `all`, and yield the rows as they come.

    Raises:
        ConfigError: there is no such benchmark.
    """
    settings.say(f"{pin_threads()} threads, on {settings.device}")
    for benchmark in choose(name):
        torch._dynamo.reset()
        yield from importlib.import_module(f"dit.bench.{benchmark.replace('-', '_')}").run(settings)


def result_path(name: str, machine: dict[str, Any]) -> Path:
    """Return the file under tools/results that is named by the kind of device, or the GPU, torch and precision."""
    version = machine["torch"].split("+")[0]
    device = machine["gpu"].replace(" ", "-") if machine["gpu"] else machine["device"]
    return RESULTS / f"{name}_{device}_torch-{version}_{'bf16' if machine['bf16'] else 'fp32'}.json"

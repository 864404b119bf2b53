"""All benchmarks by name, and their results as JSON."""

import importlib
import time
from pathlib import Path
from typing import Any

import torch

from dit.bench.harness import Row
from dit.bench.names import choose
from dit.bench.settings import Settings, machine, pin_threads

RESULTS = Path("tools") / "results"


def run(name: str, settings: Settings) -> dict[str, Any]:
    """Run one benchmark, or `all`, and return the machine and the rows.

    Raises:
        ConfigError: there is no such benchmark.
    """
    benchmarks = choose(name)
    settings.say(f"{pin_threads()} threads")
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for benchmark in benchmarks:
        start = time.perf_counter()
        torch._dynamo.reset()
        rows += importlib.import_module(f"dit.bench.{benchmark.replace('-', '_')}").run(settings)
        seconds[benchmark] = time.perf_counter() - start
    return {"machine": machine(), "seconds": seconds, "rows": [row.as_dict() for row in rows]}


def result_path(name: str, result: dict[str, Any]) -> Path:
    """Return the file under tools/results that is named by processor or GPU, torch and precision."""
    facts = result["machine"]
    where = "gpu" if facts["gpu"] else "cpu"
    precision = "bf16" if facts["gpu"] or facts["bf16_matrix_unit"] else "fp32"
    return RESULTS / f"{name}_{where}_torch-{facts['torch'].split('+')[0]}_{precision}.json"

"""`dit bench`: how fast this is here, against what else there is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECTIONS = ("model",)


def run(
    name: str,
    /,
    model: str | None = None,
    batch: int | None = None,
    device: str | None = None,
    budget: float = 120.0,
    rounds: int = 7,
    json: Path | None = None,
    save: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Measure speed on this machine, beside diffusers and a plain PyTorch network.

    All contenders run in turn; a ratio above 1 means that we are faster, and in rows
    `with ...` how many times our own plain step it takes. What the device only emulates is left out.

    Args:
        name: denoise, data, encode, decode, sample, train-step, scaling, evaluate, or all of them.
        model: name of the network, in place of the benchmark's own; `dit models` lists them.
        batch: batch size, in place of the benchmark's own; of evaluate the number of samples.
        device: such as cpu, cuda or cuda:1; the first accelerator, else the CPU, by default.
        budget: seconds for each benchmark, after which nothing new is begun.
        rounds: most rounds of each race, at least 1.
        json: also write the rows, with machine and versions, to this file.
        save: also write them to tools/results, named by device, torch version and precision.
        overrides: dotted argument of the network that differs from its name's -> value, such as model.hidden_size.
    """
    from dit.bench.names import choose
    from dit.errors import ConfigError

    choose(name)
    for option, value in (("rounds", rounds), ("batch", batch), ("budget", budget)):
        if value is not None and value < 1:
            raise ConfigError(f"--{option}: expected at least 1, found {value}")

    from dit.bench import run as bench
    from dit.bench.settings import Settings, describe_machine
    from dit.device import choose_device
    from dit.files import write_json

    arguments = {name.removeprefix("model."): value for name, value in (overrides or {}).items()}
    settings = Settings(choose_device(device), rounds, budget, model, batch, arguments)
    if settings.device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # also where there is a GPU
    machine = describe_machine(settings.device)
    files = [json] if json is not None else []
    if save:
        files.append(bench.result_path(name, machine))
        files[-1].parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in bench.run(name, settings):
        rows.append(vars(row))
        for file in files:
            write_json(file, {"machine": machine, "rows": rows})
        times = f"{row.ours:.4g} against {row.theirs:.4g} {row.unit}, {row.rounds} rounds"
        spread = f"{row.ratio:.2f}  {row.low:.2f}-{row.high:.2f}"
        held = f", {row.memory[0]:.0f} against {row.memory[1]:.0f} MB" if row.memory is not None else ""
        reached = f", {row.share:.0%} of the device's products" if row.share is not None else ""
        print(f"{row.benchmark}  {row.case}  {row.peer}  {spread}  {times}{held}{reached}", flush=True)

"""Training files of others, from which a run goes on: what torch.save wrote of {model, ema, opt, steps}.

`model` are the weights, `ema` is their average, and `opt` the state dict of a torch optimizer, which has numbers in
place of names: those of the model's parameters in their order. What of a state dict is no parameter has no number, so
that the names are those that fit in number and shapes. DiT, SiT, REPA, LightningDiT and others write such files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit.errors import ConfigError, DitError
from dit.models.layout import Layout
from dit.pickle_file import load_pickle
from dit.zoo.layouts.original import ForeignModel, ReadOptions, read_state_file
from dit.zoo.layouts.table import recognise, strip_wrappers, to_native

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingFile:
    """What a run goes on from; all tensors by our names."""

    model: ForeignModel
    """The weights and their description."""
    average: dict[str, Tensor]
    """Their average."""
    moments: dict[str, Tensor]
    """AdamW's state, `<key>.<parameter>`; none where the file's is not AdamW's."""
    step: int
    """Optimizer steps made."""


def read_training_file(path: str | Path, arguments: Mapping[str, Any], process: str | None = None) -> TrainingFile:
    """Read a training file.

    Args:
        path: written by torch.save.
        arguments: of the network, which shapes may not tell, and its variant as `name`.
        process: name of the one that it was trained for, where the file does not tell it.

    Raises:
        ConfigError: it has no weights or no average.
        DitError: it is not a model's, or is damaged.
    """
    path = Path(path)
    content = load_pickle(path) if path.is_file() else None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("model", "ema")):
        found = f"{path} without them" if path.is_file() else f"no file {path}"
        raise ConfigError(f"ema.from_file: expected a training file with model and ema, found {found}")
    weights, state = strip_wrappers(content["model"]), content.get("opt")
    try:
        layout = recognise(weights, "raw")[1]
    except DitError as error:
        raise DitError(f"{path}: {error}") from None
    is_told = "args" in content or process not in [entry.name for entry in layout.trained_for]
    options = ReadOptions(model=arguments, process=None if is_told else process)
    model = read_state_file(path, replace(options, weights="raw"))
    average = read_state_file(path, options).tensors
    moments = read_moments(state, weights, layout) if isinstance(state, dict) else {}
    steps = content.get("steps")
    if steps is None:
        steps = max((int(value) for label, value in moments.items() if label.startswith("step.")), default=0)
    if not isinstance(steps, int) or steps < 0:
        raise DitError(f"{path}: steps: expected a whole number, found {steps!r}")
    return TrainingFile(model, average, moments, steps)


def read_moments(optimizer: Mapping[str, Any], weights: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return AdamW's state by our names, `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME`.

    Args:
        optimizer: its state dict.
        weights: the network's, as the file names them.
        layout: of these names.

    Returns:
        Nothing where the state is another optimizer's, or does not fit the weights. Parameters without a state, which
        were frozen, have moments of zero.
    """
    state, groups = optimizer.get("state"), optimizer.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list) or not state:
        return {}
    if any(not isinstance(entry, dict) or set(entry) != {"step", *MOMENTS} for entry in state.values()):
        return {}
    names = _name_numbers([number for group in groups for number in group["params"]], state, weights, layout)
    step = torch.tensor(float(max(entry["step"] for entry in state.values())))
    moments: dict[str, Tensor] = {}
    for key in MOMENTS if names else ():
        found = {names[number]: entry[key] for number, entry in state.items()}
        whole = {name: found.get(name, torch.zeros_like(tensor)) for name, tensor in weights.items()}
        native, _ = to_native(whole, layout)
        moments |= {f"{key}.{name}": tensor for name, tensor in native.items()}
        moments |= {f"step.{name}": step.clone() for name in native}
    return moments


def _name_numbers(
    numbers: list[int], state: Mapping[int, Mapping[str, Any]], weights: Mapping[str, Tensor], layout: Layout
) -> dict[int, str]:
    """Return the name of each parameter's number; nothing where none fit.

    Of what a layout drops some are parameters (heads), some are not (tables).
    """
    patterns = layout.dropped
    for left_out in chain.from_iterable(combinations(patterns, size) for size in range(len(patterns) + 1)):
        names = [name for name in weights if not any(fnmatchcase(name, pattern) for pattern in left_out)]
        named = dict(zip(numbers, names, strict=False))
        shapes = [(named.get(n), entry[key].shape) for n, entry in state.items() for key in MOMENTS]
        if len(names) == len(numbers) and all(name and weights[name].shape == shape for name, shape in shapes):
            return named
    return {}

"""The optimizer, and its state as named tensors."""

from collections.abc import Iterable
from functools import partial
from itertools import chain, repeat
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dit.errors import ConfigError, DitError, did_you_mean
from dit.training.config import OptimConfig
from dit.training.ranks.sharding import shard_like
from dit.training.weights.schedule import PEAK

FUSED = ("adam", "adamw")
"""Optimizers with a fused kernel: one pass over memory, and an update that the device itself can be told to skip."""
OF_RECIPE = frozenset({"lr", PEAK, "betas", "eps", "weight_decay", "momentum"})
"""Options of a group that the recipe decides, also after a checkpoint was loaded; others may be state."""


def create_optimizer(model: nn.Module, config: OptimConfig, matrices: Iterable[Tensor] = ()) -> Optimizer:
    """Build the optimizer of the trained parameters; biases and one-dimensional parameters are not decayed.

    Args:
        model: holds the parameters.
        config: the recipe's section.
        matrices: those of its parameters that muon updates by Muon.

    Raises:
        ConfigError: timm knows no optimizer of this name, or it does not take the arguments; muon finds no matrices.
    """
    create = partial(_create_muon, matrices=matrices) if config.name.lower() == "muon" else _create_of_timm
    optimizer = create(model, config)
    for group in optimizer.param_groups:
        group[PEAK] = group["lr"]
    return optimizer


def _create_muon(model: nn.Module, config: OptimConfig, matrices: Iterable[Tensor]) -> Optimizer:
    from dit.training.weights.muon import Muon

    trained = {id(parameter): parameter for parameter in model.parameters() if parameter.requires_grad}
    of_muon = [trained.pop(id(matrix)) for matrix in matrices if id(matrix) in trained]
    if not of_muon:
        raise ConfigError("optim.name: muon: expected blocks with matrices that are trained, found none; use adamw")
    groups: list[dict[str, Any]] = [
        {"params": of_muon, "lr": config.muon_lr, "momentum": config.muon_momentum},
        {"params": [parameter for parameter in trained.values() if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained.values() if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return Muon(groups, lr=config.lr, weight_decay=config.weight_decay, **_moments(config))


def _moments(config: OptimConfig) -> dict[str, Any]:
    given = {"betas": config.betas, "eps": config.eps}
    return {name: value for name, value in given.items() if value is not None}


def _create_of_timm(model: nn.Module, config: OptimConfig) -> Optimizer:
    from timm.optim import create_optimizer_v2, list_optimizers  # pyright: ignore[reportPrivateImportUsage]

    name = config.name.lower()
    known = [str(known) for known in list_optimizers()]
    if name not in known:
        raise ConfigError(
            f"optim.name: expected an optimizer of timm.optim.list_optimizers(), found {config.name!r}."
            + did_you_mean(name, known)
        )
    arguments = _moments(config)
    if name in FUSED:
        arguments["fused"] = True
    try:
        return create_optimizer_v2(model, name, lr=config.lr, weight_decay=config.weight_decay, **arguments)
    except (TypeError, ModuleNotFoundError, AssertionError) as error:
        raise ConfigError(f"optim.name: {config.name!r} could not be built: {error}") from error


def optimizer_state(optimizer: Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the optimizer's state as tensors `<key>.<parameter>` and everything else as JSON.

    Parameters go by name, so that the state does not depend on the order in which the optimizer groups them.
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    names = _names(optimizer, model)
    saved = optimizer.state_dict()
    for index, entries in saved["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{names[index]}"] = value
            else:
                scalars.setdefault(names[index], {})[key] = value
    groups = [{key: value for key, value in group.items() if _is_plain(value)} for group in saved["param_groups"]]
    return tensors, {"state": scalars, "groups": groups}


def load_optimizer_state(
    optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor], scalars: dict[str, Any], *, origin: str
) -> None:
    """Put what `optimizer_state` returned back; `origin` is the file that an error names.

    Raises:
        DitError: a parameter of the checkpoint is not one of the model, or has another shape.
    """
    names = _names(optimizer, model)
    indices = {name: index for index, name in names.items()}
    parameters = dict(model.named_parameters())
    state: dict[int, dict[str, Any]] = {}
    for label, value in tensors.items():
        key, _, name = label.partition(".")
        if name not in indices:
            raise DitError(f"{origin}: holds {label}, expected only parameters that this model trains")
        shape = parameters[name].shape
        if value.ndim and value.shape != shape and key.startswith("exp_avg"):
            raise DitError(f"{origin}: {label} has shape {tuple(value.shape)}, expected {tuple(shape)}")
        if value.ndim and value.shape == shape:
            value = shard_like(parameters[name], value)
        state.setdefault(indices[name], {})[key] = value
    # Older versions of timm hand the optimizer frozen parameters too, which never get a state.
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if missing := [name for index, name in names.items() if index not in state and name in trained and tensors]:
        raise DitError(f"{origin}: expected the state of {missing[0]}, found none ({len(missing)} missing)")
    for name, entries in scalars["state"].items():
        state.setdefault(indices[name], {}).update(entries)
    current = optimizer.state_dict()["param_groups"]
    # A weight decay that a resumed run was given on purpose may have split a group.
    found = chain(scalars["groups"], repeat(scalars["groups"][-1]))
    groups = [
        {**group, **{key: value for key, value in saved.items() if key not in OF_RECIPE}}
        for group, saved in zip(current, found, strict=False)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names(optimizer: Optimizer, model: nn.Module) -> dict[int, str]:
    """Return the name of each parameter by the number that `Optimizer.state_dict` gives it."""
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: by_identity[id(parameter)] for index, parameter in enumerate(parameters)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | None)

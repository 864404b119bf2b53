"""The optimizer, its learning-rate schedule, and its state as named tensors.

The schedule is a pure function of the step, so that there is nothing of it to save; it is evaluated once per optimizer
step, whatever the number of processes.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dit.errors import ConfigError, DitError, did_you_mean
from dit.training.config import OptimConfig

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler

FUSED = ("adam", "adamw")
"""Optimizers with a fused kernel: one pass over memory, and an update that the device itself can be told to skip."""


def create_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """Build the optimizer of the trained parameters; biases and one-dimensional parameters are not decayed.

    Raises:
        ConfigError: timm knows no optimizer of this name, or it does not take the arguments.
    """
    from timm.optim import create_optimizer_v2, list_optimizers  # pyright: ignore[reportPrivateImportUsage]

    name = config.name.lower()
    known = [str(known) for known in list_optimizers()]
    if name not in known:
        raise ConfigError(
            f"optim.name: expected an optimizer of timm.optim.list_optimizers(), found {config.name!r}."
            + did_you_mean(name, known)
        )
    arguments: dict[str, Any] = {} if config.betas is None else {"betas": config.betas}
    if config.eps is not None:
        arguments["eps"] = config.eps
    if name in FUSED:
        arguments["fused"] = True
    try:
        return create_optimizer_v2(model, name, lr=config.lr, weight_decay=config.weight_decay, **arguments)
    except (TypeError, ModuleNotFoundError, AssertionError) as error:
        raise ConfigError(f"optim.name: {config.name!r} could not be built: {error}") from error


def create_schedule(optimizer: Optimizer, config: OptimConfig, *, max_steps: int) -> "Scheduler":
    """Build the schedule; `set_learning_rate` evaluates it."""
    from timm.scheduler.cosine_lr import CosineLRScheduler
    from timm.scheduler.multistep_lr import MultiStepLRScheduler
    from timm.scheduler.poly_lr import PolyLRScheduler

    warmup: dict[str, Any] = {"warmup_t": config.warmup_steps, "warmup_prefix": True, "t_in_epochs": False}
    length = max_steps - config.warmup_steps
    if config.schedule == "constant" or length < 2:
        return MultiStepLRScheduler(optimizer, decay_t=[], **warmup)
    course = {"t_initial": length, "lr_min": config.lr * config.final_lr_ratio}
    if config.schedule == "cosine":
        return CosineLRScheduler(optimizer, **course, **warmup)
    return PolyLRScheduler(optimizer, power=1.0, **course, **warmup)


def set_learning_rate(schedule: "Scheduler", step: int) -> float:
    """Set the learning rate of the step from `step` to `step + 1` and return it.

    The first of W warm-up steps uses lr / W rather than 0, the last step of the run the schedule's last value.
    """
    schedule.step_update(step + 1)
    return schedule.optimizer.param_groups[0]["lr"]


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
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Any]] = {}
    for label, value in tensors.items():
        key, _, name = label.partition(".")
        if name not in indices:
            raise DitError(f"{origin}: holds {label}, expected only parameters that this model trains")
        if value.ndim and value.shape != shapes[name] and key.startswith("exp_avg"):
            raise DitError(f"{origin}: {label} has shape {tuple(value.shape)}, expected {tuple(shapes[name])}")
        state.setdefault(indices[name], {})[key] = value
    # Older versions of timm hand the optimizer frozen parameters too, which never get a state.
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if missing := [name for index, name in names.items() if index not in state and name in trained and tensors]:
        raise DitError(f"{origin}: expected the state of {missing[0]}, found none ({len(missing)} missing)")
    for name, entries in scalars["state"].items():
        state.setdefault(indices[name], {}).update(entries)
    groups = [
        {**group, **saved}
        for group, saved in zip(optimizer.state_dict()["param_groups"], scalars["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names(optimizer: Optimizer, model: nn.Module) -> dict[int, str]:
    """Return the name of each parameter by the number that `Optimizer.state_dict` gives it."""
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: by_identity[id(parameter)] for index, parameter in enumerate(parameters)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | None)

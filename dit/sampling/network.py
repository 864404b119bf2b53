"""What sampling asks of a network, which is any function model(x_t, t, y), beyond calling it: its capabilities."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dit.diffusion.process import Process
from dit.errors import ConfigError
from dit.sampling.config import SamplingConfig

Step = Callable[[Tensor, int, slice], Tensor]
"""step(x_t (B, C, H, W), i, rows) -> output of the network at the i-th time for those rows of the labels."""


@runtime_checkable
class HasNullClass(Protocol):
    """A network that classifier-free guidance can ask for the label of no class."""

    null_class: int | None
    """Label K of the null class, the one after the K classes: 0 where there are no classes; None: there is none."""


@runtime_checkable
class HasConditions(Protocol):
    """A network that is told more than time and class; guidance may be among it, and is an input then."""

    condition_names: tuple[str, ...]
    """Names of further arguments of its call, each (B,): r, h, guidance, t_min, t_max."""


@runtime_checkable
class CanPrepare(Protocol):
    """A network that computes beforehand what depends on times and labels alone, and may skip work between calls."""

    def prepare(self, t_grid: Tensor, y: Tensor, **options: Any) -> Step:
        """Return the steps at times t_grid (N,) as the network embeds them for labels y (R,); options: `cache`, ..."""
        ...


@runtime_checkable
class CanRoute(Protocol):
    """A network some of whose tokens may skip some of its blocks: see `dit.models.network.CanRoute`."""

    @property
    def num_tokens(self) -> int:
        """T."""
        ...

    def block_list(self) -> list[Any]:
        """Return the blocks."""
        ...

    def forward_routed(self, x_t: Tensor, t: Tensor, y: Tensor, keep: Tensor, **blocks: int) -> tuple[Tensor, Any]:
        """Return the output (B, C, H, W) where the tokens keep (B, T') alone go through all blocks, and more."""
        ...


GUIDANCE_INPUTS = ("guidance", "t_min", "t_max")
"""Further arguments of a call that sampling chooses; all others are the process's."""


def check_conditions(model: Any, process: Process) -> None:
    """Refuse a process that does not tell the network what it asks for besides time and class, or tells it more.

    Raises:
        ConfigError: naming what is asked for and what is told.
    """
    asked = {name for name in condition_names(model) if name not in GUIDANCE_INPUTS}
    told = set(process.conditions(torch.zeros(()), torch.zeros(())))
    if asked != told:
        asked_for, found = (", ".join(sorted(names)) or "nothing" for names in (asked, told))
        raise ConfigError(
            f"process: expected one that tells this network {asked_for} besides time and class, found "
            f"{process.config.name}, which tells {found}; see process.name and process.condition"
        )


def check_guidance(model: Any, sampling: SamplingConfig) -> None:
    """Refuse guidance that a network can't be had for, or, trained with guidance in it, lets nobody choose.

    Args:
        model: the network, or its class.
        sampling: the section.

    Raises:
        ConfigError: naming the field.
    """
    if sampling.guidance_routing is not None and not isinstance(model, CanRoute):
        raise ConfigError(
            f"sampling.guidance_routing: expected a network whose blocks are one plain sequence over its tokens, found "
            f"{getattr(model, '__name__', type(model).__name__)}, whose are not"
        )
    names = condition_names(model)
    if not names:
        return
    if sampling.guidance != 1 and "guidance" not in names:
        raise ConfigError(
            f"sampling.guidance: expected 1, for this network was trained with its guidance and takes no other, found "
            f"{sampling.guidance:g}"
        )
    if sampling.guidance < 1:
        raise ConfigError(
            f"sampling.guidance: expected at least 1, for this network is told its scale, found {sampling.guidance:g}"
        )
    unused = ["guidance_channels", "guidance_schedule", "guidance_rescale", "guidance_routing"]
    unused += [] if "t_min" in names else ["guidance_interval", "guidance_steps"]
    for field in unused:
        if (found := getattr(sampling, field)) != SamplingConfig.model_fields[field].default:
            raise ConfigError(
                f"sampling.{field}: expected it left out, for this network was trained with its guidance, found {found}"
            )


def condition_names(model: Any) -> tuple[str, ...]:
    """Return the names of what a network is told besides time and class."""
    return model.condition_names if isinstance(model, HasConditions) else ()


def null_class_of(model: Any) -> int | None:
    """Return the label of a network's null class; None where it has none."""
    return model.null_class if isinstance(model, HasNullClass) else None

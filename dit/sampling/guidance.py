"""Guidance: a network's output is pushed away from that of a worse one.

output = u + w (c - u), with c the network on the class asked for, and u either the same network on the null class
(classifier-free guidance) or a weaker network on the same class (autoguidance; `dit.sampling.routed`). w = 1 is off.

Source: Ho & Salimans, "Classifier-free diffusion guidance", 2022, equation 6 (whose w counts from 0 as off); Karras et
al., "Guiding a diffusion model with a bad version of itself", NeurIPS 2024, equation 3.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from dit.diffusion.process import Model
from dit.errors import ConfigError
from dit.sampling.config import SamplingConfig
from dit.sampling.network import CanPrepare, Step


def combine(
    conditional: Tensor, unconditional: Tensor, *, scale: float, num_channels: int, rescale: float = 0.0
) -> Tensor:
    """Guide the first `num_channels` channels; the others stay the conditional ones.

    Args:
        conditional: (B, C or 2C, H, W) output for the class asked for.
        unconditional: the worse output, of the same shape.
        scale: w.
        num_channels: leading channels that are guided; never the variance.
        rescale: share by which the guided channels get the conditional ones' standard deviation back.

    Source: rescale: Lin et al., "Common diffusion noise schedules and sample steps are flawed", WACV 2024, equation 16.
    """
    c, u = conditional[:, :num_channels], unconditional[:, :num_channels]
    guided = u + scale * (c - u)
    if rescale:
        ratio = c.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
        guided = guided * (rescale * ratio + 1 - rescale)
    return torch.cat([guided, conditional[:, num_channels:]], dim=1)


@dataclass(frozen=True)
class PreparedCalls:
    """A network that computed beforehand what depends on the times and the labels of one sampling."""

    step: Step
    index: Mapping[float, int]
    """The process's time -> i."""

    def __call__(self, x_t: Tensor, i: int, scale: float, *, together: bool) -> tuple[Tensor, Tensor | None]:
        """Return the conditional output and, unless the scale is 1, the unconditional one."""
        conditional, unconditional = slice(len(x_t)), slice(len(x_t), None)
        if scale == 1:
            return self.step(x_t, i, conditional), None
        if together:
            both = self.step(x_t, i, slice(None)).chunk(2)
            return both[0], both[1]
        return self.step(x_t, i, conditional), self.step(x_t, i, unconditional)


@dataclass(frozen=True)
class Guidance:
    """A network and the worse one that guides it, as one function of x_t and the time; counts are in `num_calls`.

    Attributes:
        model: the network.
        weaker: the network of the worse output; `model` itself for classifier-free guidance.
        null_class: its label, or None to keep the class asked for (autoguidance).
        sampling: scale, interval, schedule, rescale and how calls are batched.
        num_channels: leading output channels that are guided.
        last_time: where a schedule of the scale has reached w: the first of a process's discrete steps, or data.
        told: conditions of the network that are the same in every call, by name.
    """

    model: Model
    weaker: Model
    null_class: int | None
    sampling: SamplingConfig
    num_channels: int
    last_time: float = 0.0
    told: Mapping[str, float] = field(default_factory=dict)

    def prepare(
        self, times: Tensor, model_times: Tensor, y: Tensor, conditions: Mapping[str, Tensor] | None = None
    ) -> "Guidance":
        """Let a network compute beforehand what depends on times (N,), labels y (B,) and conditions (N,) alone."""
        if self.weaker is not self.model or not isinstance(self.model, CanPrepare):
            if self.sampling.cache != "off":
                raise ConfigError("sampling.cache: expected off, for this network or this guidance can't be cached")
            return self
        guided = self.sampling.guidance != 1
        labels = torch.cat([y, torch.full_like(y, self.null_class)]) if guided and self.null_class is not None else y
        cache = self.sampling.cache
        options: dict[str, Any] = {}
        if cache != "off":
            options = {"cache": cache, "cache_interval": self.sampling.cache_interval}
        options |= {name: torch.full_like(model_times, value) for name, value in self.told.items()}
        options |= {name: value.to(model_times.device) for name, value in (conditions or {}).items()}
        step = self.model.prepare(model_times, labels, **options)
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return PreparedGuidance(**own, prepared=PreparedCalls(step, {t: i for i, t in enumerate(times.tolist())}))

    def scale_at(self, t: float) -> float:
        """Return w at time t in [0, 1]; 1 where guidance does not act."""
        sampling = self.sampling
        if sampling.guidance_interval is not None:
            low, high = sampling.guidance_interval
            if not low <= t <= high:
                return 1.0
        course, passed = _COURSES[sampling.guidance_schedule], 1 - (t - self.last_time)
        return 1 + (sampling.guidance - 1) * course(passed, sampling.guidance_power)

    def __call__(
        self,
        x_t: Tensor,
        t: float,
        model_time: Tensor,
        y: Tensor,
        conditions: Mapping[str, Tensor] | None = None,
        guided_at: float | None = None,
    ) -> tuple[Tensor, int]:
        """Return the output at x_t (B, C, H, W) for labels y (B,), and the network calls per sample that it took.

        Args:
            x_t: (B, C, H, W).
            t: the process's time.
            model_time: (B,) the time as the network embeds it.
            y: (B,) labels.
            conditions: what the network is told of this call besides, each ().
            guided_at: the time that decides on the scale; left out: t.
        """
        scale = self.scale_at(t if guided_at is None else guided_at)
        told = {name: torch.full_like(model_time, value) for name, value in self.told.items()}
        told |= {name: value.to(model_time).expand(len(y)) for name, value in (conditions or {}).items()}
        conditional, unconditional = self._branches(x_t, t, model_time, y, scale, told)
        if unconditional is None:
            return conditional, 1
        rescale = self.sampling.guidance_rescale
        guided = combine(conditional, unconditional, scale=scale, num_channels=self.num_channels, rescale=rescale)
        return guided, 2

    def _branches(
        self, x_t: Tensor, t: float, model_time: Tensor, y: Tensor, scale: float, told: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        together = self.weaker is self.model and self.sampling.guidance_calls == "one"
        if scale == 1:
            return self.model(x_t, model_time, y, **told), None
        other = y if self.null_class is None else torch.full_like(y, self.null_class)
        if together:
            both = self.model(torch.cat([x_t, x_t]), torch.cat([model_time, model_time]), torch.cat([y, other]))
            conditional, unconditional = both.chunk(2)
            return conditional, unconditional
        return self.model(x_t, model_time, y), self.weaker(x_t, model_time, other)


@dataclass(frozen=True, kw_only=True)
class PreparedGuidance(Guidance):
    """The same with the network's own way to be called at known times and labels."""

    prepared: PreparedCalls

    def _branches(
        self, x_t: Tensor, t: float, model_time: Tensor, y: Tensor, scale: float, told: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        if (i := self.prepared.index.get(t)) is None:
            return super()._branches(x_t, t, model_time, y, scale, told)
        return self.prepared(x_t, i, scale, together=self.sampling.guidance_calls == "one")


# How far the scale has gone from 1 to w when a share s of the time has passed.
_COURSES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda s, power: 1.0,
    "linear": lambda s, power: s,
    # Source: Gao et al., "MDTv2", 2023, equation 10, whose time of the step k of N is k / N.
    "power_cosine": lambda s, power: (1 - math.cos(math.pi * s**power)) / 2,
}

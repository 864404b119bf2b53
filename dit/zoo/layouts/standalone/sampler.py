"""How the network makes samples: the process that it was trained for, the times, the solver and the guidance.

Time runs from t=1 (noise) to t=0 (data): x_t = alpha_t x_0 + sigma_t eps. A solver takes a whole step and may call the
network twice, so that this class, other than most schedulers, is handed the network.

B batch, C channels, H x W latents or pixels.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from dit.diffusion.process import Process
from dit.sampling.config import GRIDS, SamplingConfig
from dit.sampling.grid import Grid, create_grid
from dit.sampling.sampler import Denoiser, guided_network, integrate


class Sampler(SchedulerMixin, ConfigMixin):
    """A process with a way to sample it.

    Args:
        process: settings of the process; those of its training are kept and not read.
        sampling: solver, grid of times, number of steps and guidance, where a call does not say otherwise.
    """

    order = 1
    process_class: ClassVar[Any]
    process_settings: ClassVar[Any]
    solvers: ClassVar[Mapping[str, tuple[Any, Any]]]
    """Name -> the solver and its settings."""

    @register_to_config
    def __init__(self, process: dict[str, Any], sampling: dict[str, Any]) -> None:
        if (name := sampling["solver"]["name"]) not in self.solvers:
            raise ValueError(f"solver: expected {' or '.join(self.solvers)}, found {name}")
        self.set_timesteps(sampling["steps"])

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Lay out the times of so many steps; they stay on the CPU, in float64."""
        self.num_inference_steps = num_inference_steps
        _, _, grid = self.parts()
        self.timesteps = grid.t[:-1]

    @property
    def init_noise_sigma(self) -> float:
        """Deviation of the state at the first time."""
        _, _, grid = self.parts()
        if grid.t[0] < 1:  # there is data in it already, taken to have unit variance
            return float((grid.alpha[0] ** 2 + grid.sigma[0] ** 2).sqrt())
        return grid.schedule.start_deviation

    def parts(self) -> tuple[Process, SamplingConfig, Grid]:
        """Return the process, the settings of sampling and the grid of times.

        They are made for each use: diffusers runs a file again when it loads the next folder with the same code, and
        what was made of the classes before would not be of those that are there then.
        """
        config: Any = self.config
        process = self.process_class(self.process_settings.of(config.process))
        grids: Any = GRIDS
        settings: Any = SamplingConfig
        solver, grid = config.sampling["solver"], config.sampling["grid"]
        nested = {"solver": self.solvers[solver["name"]][1].of(solver), "grid": grids[grid["name"]].of(grid)}
        sampling = settings.of({**config.sampling, **nested, "steps": self.num_inference_steps})
        return process, sampling, create_grid(process, sampling)

    @torch.no_grad()
    def sample(
        self,
        network: Any,
        noise: Tensor,
        class_labels: Tensor,
        noise_of_step: Callable[[int], Tensor],
        *,
        guidance_scale: float | None = None,
        guide: Any = None,
        on_step: Callable[[int, float, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Return samples (B, C, H, W) at the times that were laid out.

        Args:
            network: network(x_t, t, class_labels, ...).
            noise: (B, C, H, W) standard normal.
            class_labels: (B,) int64.
            noise_of_step: standard normal noise (B, C, H, W) of a step, for solvers that draw some.
            guidance_scale: 1 is off; the default's by default.
            guide: a weaker network that guides in place of the null class.
            on_step: on_step(k, t, x, predicted data) after each step.
        """
        process, sampling, grid = self.parts()
        if guidance_scale is not None:
            sampling = sampling.model_copy(update={"guidance": guidance_scale})
        scale, told = sampling.guidance, getattr(network, "condition_names", ())
        if told and (scale < 1 or ("guidance" not in told and scale != 1)):
            raise ValueError(
                f"guidance_scale: expected 1{' or more' if 'guidance' in told else ''}, for this network was trained "
                f"with its guidance, found {scale}"
            )
        guidance = guided_network(network, sampling, grid, noise.shape[1], guide)
        solver = self.solvers[sampling.solver.name][0](sampling.solver)
        ends = dict(zip(grid.t.tolist(), grid.t[1:].tolist(), strict=False)) if solver.spans_steps else {}
        denoiser = Denoiser(guidance, process, class_labels, ends)
        return integrate(solver, grid, denoiser, self.init_noise_sigma * noise, noise_of_step, on_step)

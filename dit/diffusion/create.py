"""From a recipe's or an exported folder's `process` section to the process."""

from collections.abc import Mapping
from typing import Any

from dit.diffusion.average_velocity import AverageVelocityProcess
from dit.diffusion.config import (
    AverageVelocityConfig,
    EdmConfig,
    FlowConfig,
    ImfLoss,
    MeanFlowLoss,
    ProcessConfig,
)
from dit.diffusion.edm import EdmProcess
from dit.diffusion.flow import FlowProcess
from dit.diffusion.gaussian import GaussianProcess
from dit.diffusion.improved_mean_flow import ImfProcess
from dit.diffusion.mean_flow import MeanFlowProcess
from dit.diffusion.process import Process
from dit.schema import Section
from dit.validation import validate


class _Recipe(Section):
    process: ProcessConfig


def create_process(config: ProcessConfig | Mapping[str, Any], null_class: int | None = None) -> Process:
    """Build the process that a recipe's or an exported folder's section describes.

    Args:
        config: the section, or its values as in a recipe: {"name": "flow", "time_law": {"name": "logit_normal"}}.
        null_class: label of the null class, for a loss that asks the network for it.

    Raises:
        ConfigError: an unknown field, or a value out of range.
    """
    if isinstance(config, Mapping):
        config = validate(_Recipe, {"process": config}, origin="").process
    if isinstance(config, FlowConfig):
        return FlowProcess(config)
    if isinstance(config, EdmConfig):
        return EdmProcess(config)
    if isinstance(config, AverageVelocityConfig):
        return _average_velocity(config, null_class)
    return GaussianProcess(config)


def _average_velocity(config: AverageVelocityConfig, null_class: int | None) -> AverageVelocityProcess:
    if isinstance(config.loss, MeanFlowLoss):
        return MeanFlowProcess(config, null_class)
    if isinstance(config.loss, ImfLoss):
        return ImfProcess(config, null_class)
    return AverageVelocityProcess(config, null_class)

"""From a recipe's or an exported folder's `process` section to the process."""

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


def create_process(config: ProcessConfig, null_class: int | None = None) -> Process:
    """Build the process that a recipe's or an exported folder's section describes.

    Args:
        config: the section.
        null_class: label of the null class, for a loss that asks the network for it.
    """
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

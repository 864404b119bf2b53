"""From a recipe's or an exported folder's `process` section to the process."""

from dit.diffusion.average_velocity import AverageVelocityProcess
from dit.diffusion.config import AverageVelocityConfig, EdmConfig, FlowConfig, GaussianConfig
from dit.diffusion.edm import EdmProcess
from dit.diffusion.flow import FlowProcess
from dit.diffusion.gaussian import GaussianProcess
from dit.diffusion.process import Process


def create_process(config: FlowConfig | GaussianConfig | EdmConfig | AverageVelocityConfig) -> Process:
    """Build the process that a recipe's or an exported folder's section describes."""
    if isinstance(config, FlowConfig):
        return FlowProcess(config)
    if isinstance(config, EdmConfig):
        return EdmProcess(config)
    if isinstance(config, AverageVelocityConfig):
        return AverageVelocityProcess(config)
    return GaussianProcess(config)

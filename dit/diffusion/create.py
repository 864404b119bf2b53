"""From a recipe's or an exported folder's `process` section to the process."""

from dit.diffusion.config import FlowConfig, GaussianConfig
from dit.diffusion.flow import FlowProcess
from dit.diffusion.gaussian import GaussianProcess
from dit.diffusion.process import Process


def create_process(config: FlowConfig | GaussianConfig) -> Process:
    """Build the process that a recipe's or an exported folder's section describes."""
    if isinstance(config, FlowConfig):
        return FlowProcess(config)
    return GaussianProcess(config)

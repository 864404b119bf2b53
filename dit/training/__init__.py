"""Training: the loop, the optimizer, the weight average and the logs."""

from typing import TYPE_CHECKING

from dit.lazy import lazy

if TYPE_CHECKING:
    from dit.training.config import EmaConfig, OptimConfig
    from dit.training.weights.ema import Ema
    from dit.training.weights.optim import create_optimizer

__all__ = ["Ema", "EmaConfig", "OptimConfig", "create_optimizer"]
_HOMES = {
    "Ema": "dit.training.weights.ema",
    "EmaConfig": "dit.training.config",
    "OptimConfig": "dit.training.config",
    "create_optimizer": "dit.training.weights.optim",
}
__getattr__, __dir__ = lazy(__name__, _HOMES)

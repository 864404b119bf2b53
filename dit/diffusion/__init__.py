"""Processes: how data becomes noise, what a network predicts, and at which times it is trained.

Time runs from t=0 (data) to t=1 (noise): x_t = alpha_t x_0 + sigma_t eps, eps ~ N(0, I).
A process is a schedule (alpha_t, sigma_t), a prediction (a x_0 + b eps) and a time law (the distribution of t).
"""

from typing import TYPE_CHECKING

from dit.lazy import lazy

if TYPE_CHECKING:
    from dit.diffusion.create import create_process
    from dit.diffusion.process import Losses, Process, drop_labels

__all__ = ["Losses", "Process", "create_process", "drop_labels"]
_HOMES = {
    "Losses": "dit.diffusion.process",
    "Process": "dit.diffusion.process",
    "create_process": "dit.diffusion.create",
    "drop_labels": "dit.diffusion.process",
}
__getattr__, __dir__ = lazy(__name__, _HOMES)

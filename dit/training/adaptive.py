"""Time laws that learn from the losses, such as one that samples times where the loss is high.

Such a law maps the uniform number of a position through a histogram of its own. What it sees must not depend on the
number of processes or on restarts: it is shown the losses of a whole step in the order of the sample positions, and
its state is part of the checkpoint.
"""

from collections.abc import Sequence

import torch

from dit.diffusion.process import Losses
from dit.diffusion.timesteps import TimeLaw
from dit.training.ranks.processes import Processes


def show_losses(law: TimeLaw, parts: Sequence[Losses], processes: Processes) -> None:
    """Show an adaptive time law the losses of one step, before their importance weights; others are left alone.

    Args:
        law: the process's time law.
        parts: this process's micro-batches, in order.
        processes: who takes part.
    """
    if law.state_dict():
        loss = torch.cat([losses.unweighted.detach() for losses in parts])
        t = torch.cat([losses.t.to(loss.device) for losses in parts])
        law.update(processes.gather(t), processes.gather(loss))

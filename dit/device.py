"""Where to compute."""

from typing import TYPE_CHECKING

from dit.errors import ConfigError

if TYPE_CHECKING:
    import torch


def choose_device(name: "str | torch.device | None" = None) -> "torch.device":
    """Return the device of that name; without one the first accelerator, else the CPU.

    Pipelines and the command line both ask here, so that they compute in the same place.

    Raises:
        ConfigError: no device of that name is here.
    """
    import torch

    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by kind of device
        raise ConfigError(f"device: expected a device of this machine, found {str(name)!r} ({error})") from None

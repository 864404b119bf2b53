"""Where to compute, and the way there."""

import platform
from functools import cache
from typing import TYPE_CHECKING

from dit.errors import ConfigError
from dit.launcher import local_rank

if TYPE_CHECKING:
    import torch


def choose_device(name: "str | torch.device | None" = None) -> "torch.device":
    """Return the device of that name; without one the process's own accelerator, else the CPU.

    Pipelines and the command line both ask here, so that they compute in the same place. A launcher numbers the
    processes of a machine by LOCAL_RANK; one that shows each process a single device leaves no choice.

    Raises:
        ConfigError: no device of that name is here.
    """
    import torch

    if name is None:
        kind = torch.accelerator.current_accelerator(check_available=True)
        if kind is None:
            return torch.device("cpu")
        return torch.device(kind.type, local_rank() % torch.accelerator.device_count())
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by kind of device
        raise ConfigError(f"device: expected a device of this machine, found {str(name)!r} ({error})") from None


def to_device(values: "torch.Tensor", device: "torch.device", dtype: "torch.dtype | None" = None) -> "torch.Tensor":
    """Return a tensor on a device, and of a type where one is given; the host does not wait for a GPU.

    Out of ordinary memory it would: until all that the GPU was asked before is done.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.to(dtype=dtype).pin_memory().to(device, non_blocking=True)  # pinned already, it is itself
    return values.to(device, dtype)


class Pending:
    """A tensor on its way from the device to the host, which a GPU sends when it has computed it."""

    def __init__(self, values: "torch.Tensor") -> None:
        import torch

        self._event = None
        self._values = values
        if values.device.type == "cuda":
            self._values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> "torch.Tensor":
        """Return the tensor on the CPU, waiting for it if need be."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.cpu()


@cache
def processor_name() -> str:
    """Return what the processor calls itself."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

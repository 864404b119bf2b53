"""Memory of a training step."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors, real or fake, that are made while the block runs, until they are freed.

    Args:
        known: tensors that were there before and are not counted.

    Attributes:
        now: their bytes.
        peak: the most there were at a time.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: Any,
        inputs: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute, and count what came out."""
        outputs = operation(*inputs, **named or {})
        for output in pytree.tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._add(output.untyped_storage())
        return outputs

    def _add(self, storage: Any) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.now += (num_bytes := storage.nbytes())
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, num_bytes)

    def _remove(self, num_bytes: int) -> None:
        self.now -= num_bytes

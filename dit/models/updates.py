"""Low-rank updates by the names and shapes of their tensors; `dit.models.lora` says what they are. Free of torch."""

from collections.abc import Iterable, Mapping, Sequence

PARTS = (A, B, ALPHA) = (".lora_A.weight", ".lora_B.weight", ".alpha")
"""Endings of the tensors of an update, after the layer's name."""


def updated_layers(names: Iterable[str]) -> list[str]:
    """Return the layers that tensors of these names hold an update of."""
    return [name.removesuffix(A) for name in names if name.endswith(A)]


def update_shapes(shapes: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return name -> shape of all tensors of the updates of which some are found, for a network of these shapes.

    Of a layer that the network has not, or that is no matrix, there are none.
    """
    expected: dict[str, list[int]] = {}
    for layer in updated_layers(found):
        if len(weight := shapes.get(f"{layer}.weight", ())) == 2:
            rank = min(found[layer + A], default=0)
            expected |= {layer + A: [rank, weight[1]], layer + B: [weight[0], rank], layer + ALPHA: []}
    return expected

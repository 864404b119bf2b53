"""Networks by name, with published weights where they are asked for, fitted to other classes, sizes and channels.

What differs from the weights is decided tensor by tensor:
- label table: rows of classes that both know by name are carried over, the null row stays last, others start anew;
- position embedding: rebuilt for the size, since it is computed and not trained;
- channels: the patch projection and the output rows are repeated where the new number is a multiple of the old;
- variance half of the output: dropped, or started at zero as in a new network.

D width, p patch, C latent channels, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dit.errors import ConfigError, did_you_mean
from dit.models import registry
from dit.models.variants import VARIANTS, resolve_arguments
from dit.zoo.entries import entries
from dit.zoo.folder.weights import empty_model, fill
from dit.zoo.source import Located, locate

ARCHITECTURE = ("patch_size", "hidden_size", "depth", "num_heads", "mlp_ratio")
"""Arguments in which a network has to equal the one that the weights are for."""
LABEL_TABLE = "y_embedder.embedding_table.weight"
PATCHES = "x_embedder.proj.weight"
OUTPUTS = ("final_layer.linear.weight", "final_layer.linear.bias")


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    id2label: Mapping[int, str] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a network by name, with random weights or published ones.

    Args:
        name: a variant such as "dit_xl_2", or one with a tag such as "dit_xl_2.in256", whose arguments are then the
            defaults; see `list_models`.
        pretrained: True takes the weights of the tag; a zoo name, folder, file or Hub id takes those.
        id2label: names of the new classes, by id; rows of classes that the weights know by the same name are kept.
        overrides: any argument of the network that differs.

    Raises:
        ConfigError: unknown name or argument, no tag, or weights of another architecture; both values are shown.
        DitError: the weights can't be read.
    """
    architecture, _, tag = name.partition(".")
    if tag and name not in entries():
        raise ConfigError(
            f"model: unknown name {name!r}; see `dit models --pretrained`.{did_you_mean(name, entries())}"
        )
    defaults = entries()[name].arguments if tag else {}
    if not pretrained:
        return registry.create_model(architecture, **defaults | overrides)
    if pretrained is True and not tag:
        tagged = [entry for entry in entries() if entry.startswith(f"{name}.")]
        raise ConfigError(
            f"model: {name!r} is an architecture without weights; pretrained=True needs a tag, "
            f"{' or '.join(map(repr, tagged)) or 'which this architecture has none of'}"
        )
    return fit(locate(name if pretrained is True else pretrained), architecture, overrides, id2label)


def fit(
    source: Located, architecture: str, overrides: Mapping[str, Any], id2label: Mapping[int, str] | None = None
) -> nn.Module:
    """Load a source's weights into a network with other arguments; see the top of this file.

    Args:
        source: the weights.
        architecture: name of the variant that is built.
        overrides: arguments that differ from the source's.
        id2label: names of the new classes.

    Raises:
        ConfigError: the weights are of another architecture, or their channels can't be repeated.
    """
    old = resolve_arguments(source.config.model.name, **source.config.model.arguments)
    new = resolve_arguments(architecture, **old | VARIANTS[architecture] | _without_none(overrides))
    for key in ARCHITECTURE:
        if old[key] != new[key]:
            raise ConfigError(f"model.{key}: the weights of {source.folder.name} have {old[key]}, asked for {new[key]}")
    weights = fill(empty_model(source.config.model.name, old), source.weights)
    same_labels = id2label is None or list(id2label.values()) == source.config.class_names
    if new == old and same_labels:
        return weights.train()
    model = registry.create_model(architecture, **new)
    fitted = dict(weights.state_dict())
    fitted["pos_embed"] = model.state_dict()["pos_embed"]
    fitted[LABEL_TABLE] = _fit_labels(source, model.state_dict()[LABEL_TABLE], fitted[LABEL_TABLE], old, new, id2label)
    _fit_channels(fitted, model.state_dict(), old, new)
    model.load_state_dict(fitted, strict=True)
    return model


def _without_none(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if value is not None}


def _fit_labels(
    source: Located,
    fresh: Tensor,
    table: Tensor,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    id2label: Mapping[int, str] | None,
) -> Tensor:
    """Return the new label table, starting from `fresh` (K', D): what both know is taken from `table` (K, D)."""
    fitted = fresh.clone()
    if len(table) > old["num_classes"] and len(fresh) > new["num_classes"]:
        fitted[-1] = table[-1]
    if id2label is None:
        if old["num_classes"] == new["num_classes"]:
            return torch.cat([table[: old["num_classes"]], fitted[new["num_classes"] :]])
        return fitted
    known = {_normal(label): index for index, label in enumerate(source.config.class_names)}
    for index, label in id2label.items():
        if not 0 <= int(index) < new["num_classes"]:
            raise ConfigError(f"id2label: expected ids from 0 to {new['num_classes'] - 1}, found {index}")
        if _normal(label) in known:
            fitted[int(index)] = table[known[_normal(label)]]
    return fitted


def _normal(label: str) -> str:
    return " ".join(label.lower().split())


def _fit_channels(
    fitted: dict[str, Tensor], fresh: Mapping[str, Tensor], old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    """Fit the patch projection (D, C, p, p) and the output rows (p * p * C or 2C) to the new channels, in place."""
    times, rest = divmod(new["in_channels"], old["in_channels"])
    if rest or not times:
        raise ConfigError(
            f"model.in_channels: the weights are for {old['in_channels']} channels, asked for {new['in_channels']}; "
            "only a multiple can be made by repeating them, other latents need another model"
        )
    # The sum over repeated channels grows by their number.
    fitted[PATCHES] = fitted[PATCHES].repeat(1, times, 1, 1) / times
    for name in OUTPUTS:
        halves = fitted[name].unflatten(0, (-1, 1 + old["learn_sigma"], old["in_channels"]))  # (p * p, 1 or 2, C, ...)
        halves = torch.cat([halves] * times, dim=2)
        fitted_halves = fresh[name].unflatten(0, (-1, 1 + new["learn_sigma"], new["in_channels"])).clone()
        shared = min(halves.shape[1], fitted_halves.shape[1])
        fitted_halves[:, :shared] = halves[:, :shared]
        fitted[name] = fitted_halves.flatten(0, 2)

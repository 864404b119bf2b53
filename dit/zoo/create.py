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

from dit.errors import ConfigError, did_you_mean
from dit.models import registry
from dit.models.families import arguments_of, family_of
from dit.models.family import Arguments
from dit.models.network import CanFit, Network
from dit.models.registry import build
from dit.zoo.entries import entries
from dit.zoo.folder.weights import empty_model, fill
from dit.zoo.source import Located, locate


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path | Located = False,
    id2label: Mapping[int, str] | None = None,
    **overrides: Any,
) -> Network:
    """Build a network by name, with random weights or published ones.

    Args:
        name: a variant such as "dit_xl_2", or one with a tag such as "dit_xl_2.in256", whose arguments are then the
            defaults; see `list_models`.
        pretrained: True takes the weights of the tag; a zoo name, folder, file, Hub id or what was found
            takes those.
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
    source = pretrained if isinstance(pretrained, Located) else locate(name if pretrained is True else pretrained)
    return fit(source, architecture, overrides, id2label)


def fit(
    source: Located, architecture: str, overrides: Mapping[str, Any], id2label: Mapping[int, str] | None = None
) -> Network:
    """Load a source's weights into a network with other arguments; see the top of this file.

    Args:
        source: the weights.
        architecture: name of the variant that is built.
        overrides: arguments that differ from the source's.
        id2label: names of the new classes.

    Raises:
        ConfigError: the weights are of another architecture, or their channels can't be repeated.
    """
    old = source.config.model.arguments
    family, theirs = family_of(architecture), family_of(name := source.config.model.name)
    if theirs is not family and theirs.name != family.extends:
        raise ConfigError(f"model.name: the weights of {source.folder.name} are a {name}'s, asked for {architecture}")
    variant = family.variants.get(architecture, {})
    given = {key: value for key, value in overrides.items() if value is not None}
    shape = {key: value for key, value in variant.items() if key not in old.fitted}  # the rest is the weights' own
    known = {key: value for key, value in old.model_dump().items() if key in family.arguments.model_fields}
    new = arguments_of(architecture, **{**known, **shape, **given})
    for key, field in {**type(old).model_fields, **type(new).model_fields}.items():
        # What only one of the families has must be as the other is without it.
        found, asked = (getattr(arguments, key, field.default) for arguments in (old, new))
        if key not in new.fitted | old.fitted and found != asked:
            raise ConfigError(f"model.{key}: the weights of {source.folder.name} have {found}, asked for {asked}")
    weights = empty_model(source.config.model)
    if source.tensors is None:
        fill(weights, source.weights).float()  # what is trained is float32
    else:
        weights.load_state_dict(source.tensors, assign=True)
    same_labels = id2label is None or list(id2label.values()) == source.config.class_names
    if new == old and same_labels:
        return weights.train()
    model = build(architecture, new)
    if not isinstance(model, CanFit):
        raise ConfigError(
            f"model: {architecture} can't be fitted to other classes, sizes or channels than those of the weights"
        )
    rows = _same_labels(source, old, new, id2label)
    model.load_state_dict(model.fit(weights.state_dict(), old, rows), strict=True)
    return model


def _same_labels(source: Located, old: Arguments, new: Arguments, id2label: Mapping[int, str] | None) -> dict[int, int]:
    """Return the new labels that the weights know -> theirs: the null class, and classes of the same name."""
    rows = {}
    if old.null_class is not None and new.null_class is not None:
        rows[new.null_class] = old.null_class
    if id2label is None:
        return rows | ({i: i for i in range(new.num_classes)} if old.num_classes == new.num_classes else {})
    known = {_normal(label): index for index, label in enumerate(source.config.class_names)}
    for index, label in id2label.items():
        if not 0 <= int(index) < new.num_classes:
            raise ConfigError(f"id2label: expected ids from 0 to {new.num_classes - 1}, found {index}")
        if _normal(label) in known:
            rows[int(index)] = known[_normal(label)]
    return rows


def _normal(label: str) -> str:
    return " ".join(label.lower().split())

"""The table of all families. Free of torch; the networks are imported when they are built.

A family in this package is a folder and one line here; one from outside calls `register_family`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from dit.errors import ConfigError, did_you_mean
from dit.models import ddt, dit, ditdh, imf, jit, lightningdit, maskdit, mdt, meanflow, uvit
from dit.models.family import Arguments, Family
from dit.validation import validate

_FAMILIES = (
    dit.FAMILY,
    lightningdit.FAMILY,
    jit.FAMILY,
    meanflow.FAMILY,
    imf.IMF,
    imf.PMF,
    mdt.MDT,
    mdt.MDT_V2,
    uvit.FAMILY,
    ddt.FAMILY,
    ditdh.FAMILY,
    maskdit.FAMILY,
)
FAMILIES: dict[str, Family] = {family.name: family for family in _FAMILIES}
"""Name -> family, in the order of listings."""


def register_family(family: Family) -> None:
    """Make the networks of a family known by their names, to Python and to the command line (`--plugin FILE`).

    Raises:
        ConfigError: the family's name or a variant's is taken, or a variant's does not begin with the family's.
    """
    taken = {*FAMILIES, *variants()} & {family.name, *family.variants}
    if taken:
        raise ConfigError(f"register_family: expected a new name, found {min(taken)!r}, which is taken")
    if wrong := [name for name in family.variants if not name.startswith(f"{family.name}_") or "." in name]:
        raise ConfigError(f"register_family: expected names that begin with {family.name}_, found {wrong[0]!r}")
    FAMILIES[family.name] = family


def variants() -> dict[str, Family]:
    """Return the family of every variant, by the variant's name."""
    return {name: family for family in FAMILIES.values() for name in family.variants}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the variants that match a shell pattern, family by family in the order of size."""
    return [name for name in variants() if fnmatchcase(name, pattern)]


def family_of(name: str, *, field: str = "model.name") -> Family:
    """Return the family of a variant, or of its own name, by which a network off the variants goes.

    Args:
        name: the variant.
        field: what a message calls it.

    Raises:
        ConfigError: there is no such name; near ones are suggested.
    """
    known = variants()
    if name in FAMILIES:
        return FAMILIES[name]
    if name not in known:
        raise ConfigError(f"{field}: unknown name {name!r}; see `dit models`.{did_you_mean(name, known)}")
    return known[name]


def arguments_of(name: str, **overrides: Any) -> Arguments:
    """Return all arguments of a variant's network, after checking them.

    Args:
        name: a variant, or a family, of which all arguments are given.
        overrides: arguments that differ from the variant's; `input_size` may be one number or a pair.

    Raises:
        ConfigError: unknown name or argument, or arguments that do not fit each other.
    """
    family = family_of(name)
    return validate(family.arguments, {**family.variants.get(name, {}), **overrides}, origin="", prefix="model.")


def differences(name: str, arguments: Arguments) -> Mapping[str, Any]:
    """Return the arguments in which a network differs from a variant, as JSON has them."""
    standard = arguments_of(name).model_dump(mode="json") if name not in FAMILIES else {}
    return {
        key: value
        for key, value in arguments.model_dump(mode="json").items()
        if key not in standard or value != standard[key]
    }

"""The variants as plain data, and what follows from their arguments alone: validity, parameters, cost.

Free of torch, so that listing models and refusing a bad recipe cost no import.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers", ICCV 2023, table 1.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from dit.errors import ConfigError, did_you_mean

_WIDTHS = {
    "ti": {"hidden_size": 192, "depth": 6, "num_heads": 3},
    "s": {"hidden_size": 384, "depth": 12, "num_heads": 6},
    "b": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "l": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "xl": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}
_NAMES = ["dit_ti_2", *(f"dit_{size}_{patch}" for size in ("s", "b", "l", "xl") for patch in (2, 4, 8))]

DEFAULTS: dict[str, Any] = {
    "input_size": 32,
    "in_channels": 4,
    "mlp_ratio": 4.0,
    "class_dropout_prob": 0.1,
    "num_classes": 1000,
    "learn_sigma": True,
}
"""Arguments that all variants share: ImageNet at 256 pixels, as published."""

VARIANTS: dict[str, dict[str, Any]] = {
    name: {"patch_size": int(name.split("_")[2]), **_WIDTHS[name.split("_")[1]]} for name in _NAMES
}
"""Name -> the arguments that tell it from the others."""

# Far beyond any network that was ever trained; a typo stops here and not in the allocator.
LIMITS = {"depth": 1000, "hidden_size": 65536, "num_heads": 4096, "in_channels": 65536, "num_classes": 10_000_000}
_TIME_FEATURES = 256


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the variants that match a shell pattern, in the order of size."""
    return [name for name in VARIANTS if fnmatchcase(name, pattern)]


def resolve_arguments(name: str, **overrides: Any) -> dict[str, Any]:
    """Return all arguments of a variant's network, `input_size` as (H, W), after checking them.

    Raises:
        ConfigError: unknown name or argument, or arguments that do not fit each other.
    """
    if name not in VARIANTS:
        raise ConfigError(f"model: unknown name {name!r}; see `dit models`.{did_you_mean(name, VARIANTS)}")
    arguments = {**DEFAULTS, **VARIANTS[name]}
    for key in overrides:
        if key not in arguments:
            raise ConfigError(f"model {name}: unknown argument {key!r}.{did_you_mean(key, arguments)}")
    arguments |= overrides
    check_arguments(arguments)
    size = arguments["input_size"]
    return arguments | {"input_size": (size, size) if isinstance(size, int) else tuple(size)}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments from which no network can be built, before any memory is taken.

    Raises:
        ConfigError: naming the argument, what was expected and what was found.
    """
    for key, limit in LIMITS.items():
        lowest = 0 if key == "num_classes" else 1
        if type(arguments[key]) is not int:
            raise ConfigError(f"model.{key}: expected a whole number, found {arguments[key]!r}")
        if not lowest <= arguments[key] <= limit:
            raise ConfigError(f"model.{key}: expected {lowest} to {limit}, found {arguments[key]}")
    width, heads, patch = (arguments[key] for key in ("hidden_size", "num_heads", "patch_size"))
    if width % heads:
        raise ConfigError(f"model.num_heads: expected a divisor of hidden_size {width}, found {heads}")
    if width % 4:
        raise ConfigError(f"model.hidden_size: expected a multiple of 4 (2-D sin-cos positions), found {width}")
    size = arguments["input_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if patch < 1 or min(height, width) < 1 or height % patch or width % patch:
        raise ConfigError(f"model.input_size: expected multiples of patch_size {patch}, found {height}x{width}")


def num_tokens(arguments: Mapping[str, Any]) -> int:
    """Return the sequence length T for arguments with `input_size` as (H, W)."""
    height, width = arguments["input_size"]
    return height * width // arguments["patch_size"] ** 2


def label_rows(arguments: Mapping[str, Any]) -> int:
    """Return the rows of the label table: the classes, and the null class where labels are dropped."""
    has_null = arguments["class_dropout_prob"] > 0 or arguments["num_classes"] == 0
    return arguments["num_classes"] + int(has_null)


def count_parameters(arguments: Mapping[str, Any]) -> int:
    """Return the number of parameters, the fixed position embedding counted as the published figures do."""
    width, depth = arguments["hidden_size"], arguments["depth"]
    mlp_width = int(width * arguments["mlp_ratio"])
    patch_values = arguments["patch_size"] ** 2 * arguments["in_channels"]
    outputs = patch_values * (2 if arguments["learn_sigma"] else 1)
    embedders = (patch_values + 1) * width + num_tokens(arguments) * width + label_rows(arguments) * width
    time = (_TIME_FEATURES + 1) * width + (width + 1) * width
    attention = (width + 1) * 3 * width + (width + 1) * width
    mlp = (width + 1) * mlp_width + (mlp_width + 1) * width
    modulation = (width + 1) * 6 * width
    final = (width + 1) * 2 * width + (width + 1) * outputs
    return embedders + time + depth * (attention + mlp + modulation) + final


def count_macs(arguments: Mapping[str, Any]) -> int:
    """Return the multiply-accumulates of one forward pass of one sample, QK^T and AV included.

    The DiT paper's table calls this figure Gflops.
    """
    width, depth, tokens = arguments["hidden_size"], arguments["depth"], num_tokens(arguments)
    mlp_width = int(width * arguments["mlp_ratio"])
    patch_values = arguments["patch_size"] ** 2 * arguments["in_channels"]
    outputs = patch_values * (2 if arguments["learn_sigma"] else 1)
    per_token = 4 * width * width + 2 * width * mlp_width
    attention = 2 * tokens * tokens * width
    block = tokens * per_token + attention + 6 * width * width
    ends = tokens * width * (patch_values + outputs) + 2 * width * width + (_TIME_FEATURES + width) * width
    return depth * block + ends

"""The benchmarks by name. Free of torch, so that a wrong name costs no import."""

from dit.errors import ConfigError, did_you_mean

BENCHMARKS = ("denoise", "data", "encode", "decode", "sample", "train-step", "scaling", "evaluate")
"""In the order in which `all` runs them."""


def choose(name: str) -> tuple[str, ...]:
    """Return the benchmarks that a name stands for.

    Raises:
        ConfigError: there is no such benchmark.
    """
    known = ("all", *BENCHMARKS)
    if name not in known:
        raise ConfigError(f"NAME: expected one of {', '.join(known)}, found {name!r}.{did_you_mean(name, known)}")
    return BENCHMARKS if name == "all" else (name,)

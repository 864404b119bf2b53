"""Feature extractors by name; `register_features` adds another. Torch is imported when one is loaded.

- `mnist`: the small classifier that ships with this package; 32 x 32 grey images, 64 features, class logits.
- `inception-v3-compat`: torch-fidelity's Inception network of the published FIDs (extra `eval`; downloads its weights).
- `timm/MODEL`: the pooled features and logits of any timm classifier, for example `timm/resnet50.a1_in1k`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch

    from dit.evaluation.extractors import FeatureExtractor

Factory = Callable[[str, "torch.device"], "FeatureExtractor"]
_FACTORIES: dict[str, Factory] = {}


def register_features(name: str) -> Callable[[Factory], Factory]:
    """Register the function below under a name for `evaluation.features`.

    Args:
        name: the extractor's name; one that ends with "/" takes every name that begins with it.

    Returns:
        A decorator of a function of the full name and the device that returns a `FeatureExtractor`.
    """

    def register(factory: Factory) -> Factory:
        _FACTORIES[name] = factory
        return factory

    return register


def list_features() -> list[str]:
    """Return the registered names; one that ends with "/" is followed by a model's name."""
    return sorted(_FACTORIES)


def load_features(name: str | None, *, device: "str | torch.device" = "cpu") -> "FeatureExtractor":
    """Load a feature extractor by its name, onto a device.

    Raises:
        ConfigError: no name, an unknown one, or an extra that is not installed.
        DitError: its weights can't be had.
    """
    import torch

    choices = ", ".join(known + "MODEL" if known.endswith("/") else known for known in list_features())
    if name is None:
        raise ConfigError(f"evaluation.features: expected one of {choices}, found none; name one with --features")
    prefix, slash, _ = name.partition("/")
    factory = _FACTORIES.get(name) or _FACTORIES.get(prefix + slash)
    if factory is None:
        raise ConfigError(
            f"evaluation.features: expected one of {choices}, found {name!r}.{did_you_mean(name, list_features())}"
        )
    return factory(name, torch.device(device))


@register_features("mnist")
def _mnist(name: str, device: "torch.device") -> "FeatureExtractor":
    from dit.evaluation.extractors import small_classifier

    return small_classifier(name, device)


@register_features("timm/")
def _timm(name: str, device: "torch.device") -> "FeatureExtractor":
    from dit.evaluation.extractors import timm_classifier

    return timm_classifier(name, device)


@register_features("inception-v3-compat")
def _inception(name: str, device: "torch.device") -> "FeatureExtractor":
    from dit.evaluation.extractors import inception

    return inception(name, device)

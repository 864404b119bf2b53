"""The 1,000 classes of ImageNet-1k: their names, and whether a data set numbers them as everybody does.

ImageNet numbers its classes by their sorted synset ids, n01440764 to n15075141. Free of torch.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files

_SYNSETS_SHA256 = "791ce0333040dd249d13133f90d28ef0263ffc01e5de0afd85b3e32048d7d456"  # of the ids, a blank between them
_LEAST_ALIKE = 990
"""Names of classes that have to be ours for all to be ImageNet's: lists differ in a few, such as the two cranes."""


def imagenet_classes() -> list[str]:
    """Return the 1000 class names of ImageNet-1k by id, all different.

    Source: torchvision's `_IMAGENET_CATEGORIES`, BSD-3-Clause.
    """
    return json.loads((files("dit.data") / "imagenet_classes.json").read_text(encoding="utf-8"))


def in_words(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of classes that are called by ImageNet's 1000 synset ids; other classes as they are."""
    is_imagenet = hashlib.sha256(" ".join(class_names).encode()).hexdigest() == _SYNSETS_SHA256
    return tuple(imagenet_classes()) if is_imagenet else class_names


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Tell whether classes are ImageNet's in its order; each may have several names, separated by commas."""
    if len(class_names) != len(imagenet_classes()):
        return False
    pairs = zip(imagenet_classes(), class_names, strict=True)
    return sum(own.lower() in synonyms(name) for own, name in pairs) >= _LEAST_ALIKE


def synonyms(name: str) -> list[str]:
    """Return the names of a class that has several, separated by commas, in small letters."""
    return [part.strip().lower() for part in name.split(",")]

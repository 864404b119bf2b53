"""Class ids and class names, interchangeable wherever a class is asked for.

A name may be written in any case; where a class has several names separated by commas (as in the ImageNet lists of
diffusers repositories), each of them will do. Digits are always an id. Free of torch.
"""

from collections.abc import Iterable, Sequence

from dit.data.imagenet import synonyms
from dit.errors import ConfigError, did_you_mean


def parse_classes(classes: str | int | Iterable[str | int], class_names: Sequence[str]) -> list[int]:
    """Turn ids and names, one or several, into ids.

    Args:
        classes: an id, a name, text with several of them separated by commas, or a sequence of ids and names.
        class_names: name of every class, by id.

    Raises:
        ConfigError: an id out of range, or a name that no class or more than one has; near names are suggested.
    """
    if isinstance(classes, str):
        # A single name may hold commas itself.
        known = classes.strip().lower() in (name.lower() for name in class_names)
        classes = [classes] if known else classes.split(",")
    elif not isinstance(classes, Iterable):
        classes = [classes]
    ids = [_class_id(wanted, class_names) for wanted in classes]
    if not ids:
        raise ConfigError("classes: expected at least one class id or name, found none")
    return ids


def _class_id(wanted: str | int, class_names: Sequence[str]) -> int:
    text = str(wanted).strip()
    if not isinstance(wanted, bool) and text.removeprefix("-").isdecimal():
        if 0 <= int(text) < len(class_names):
            return int(text)
        raise ConfigError(f"classes: expected an id from 0 to {len(class_names) - 1}, found {text}")
    ids = [i for i, name in enumerate(class_names) if text.lower() == name.lower()]
    ids = ids or [i for i, name in enumerate(class_names) if text.lower() in synonyms(name)]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ConfigError(
            f"classes: {text!r} is the name of {len(ids)} classes, {', '.join(map(str, ids))}; use the id"
        )
    names = [*class_names, *(part.strip() for name in class_names if "," in name for part in name.split(","))]
    raise ConfigError(
        f"classes: no class is named {text!r}; expected a name or an id from 0 to {len(class_names) - 1}."
        f"{did_you_mean(text, names)}"
    )

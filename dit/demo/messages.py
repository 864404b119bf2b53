"""What went wrong, in words for a visitor: without paths of this machine, which are nobody's business."""

import re

from dit.errors import DitError

_PATH = re.compile(r"(?<![\w.:/])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:'\",;]+)+[/\\]([^\s/\\:'\",;]+)")
_OPTION = re.compile(r"--([a-z_.]+)")
_FIELDS = {
    "sampling.solver": "Solver",
    "sampling.steps": "Steps",
    "sampling.guidance": "Guidance",
    "classes": "Classes",
    "steps": "Steps",
    "solver": "Solver",
    "guidance": "Guidance",
}


def message_of(error: BaseException, folders: tuple[str, ...] = ()) -> str:
    """Return one line for the page.

    Args:
        error: what was raised.
        folders: paths that a message may hold in full, also such with spaces; only their last name is told.
    """
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "There is not enough memory for that: ask for fewer pictures."
    if not isinstance(error, DitError):
        return f"That did not work ({type(error).__name__}); the terminal that runs the page says more."
    text = " ".join(str(error).split())
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder, folder.rstrip("/").rpartition("/")[2])
    text = _PATH.sub(r"\1", text)
    text = _OPTION.sub(lambda match: match[1], text)
    field, colon, rest = text.partition(": ")
    return f"{_FIELDS.get(field, field)}{colon}{rest}"

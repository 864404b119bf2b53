"""Faults that tests inject at named sites of the program.

`DIT_FAILPOINT=site:action[,site:action]` with the actions `kill`, `raise`, `enospc`, `oom`,
`signal=NAME`, or a number such as `nan`, which the site puts among its own.
"""

import errno
import os
import signal
import sys

from dit.errors import ConfigError


def failpoint(site: str) -> float | None:
    """Inject the fault that the environment asks for at this site, and say on stderr that it fired.

    Returns:
        A number, often NaN, if the site is asked to put one among its own, else None.

    Raises:
        RuntimeError: the action is `raise`.
        OSError: the action is `enospc`.
        MemoryError: the action is `oom`.
    """
    requests = os.environ.get("DIT_FAILPOINT")
    if not requests:
        return None
    number = None
    for request in requests.split(","):
        name, _, action = request.rpartition(":")
        if name != site:
            continue
        print(f"failpoint fired: {request}", file=sys.stderr, flush=True)
        number = _number(action)
        if number is None:
            _inject(action)
    return number


def _number(action: str) -> float | None:
    try:
        return float(action)
    except ValueError:
        return None


def _inject(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise RuntimeError("injected by DIT_FAILPOINT")
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "oom":
        raise MemoryError("injected by DIT_FAILPOINT")
    elif action.startswith("signal="):
        os.kill(os.getpid(), signal.Signals[f"SIG{action.removeprefix('signal=')}"])
    else:
        raise ConfigError(
            f"DIT_FAILPOINT: expected kill, raise, enospc, oom, signal=NAME or a number, found {action!r}"
        )

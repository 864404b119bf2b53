"""What went wrong on the Hub, in one line that holds no address with a secret, no header and no token.

The client's own messages quote URLs and responses; none of them is passed on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dit.errors import DitError

NO_TOKEN = "there is no token; log in with `hf auth login` or set HF_TOKEN, and take a token that may write to push"


@contextmanager
def explained(repository: str, revision: str | None = None) -> Iterator[None]:
    """Turn the client's errors inside the block into one line each.

    Raises:
        DitError: naming the repository, what is wrong, and what to do.
    """
    try:
        yield
    except DitError:
        raise
    except Exception as error:
        if not any(_is_of_the_hub(cause) for cause in _chain(error)):
            raise
        # Without the cause: its text may hold what must not be shown.
        raise DitError(f"{repository}: {reason(error, revision)}") from None


def reason(error: BaseException, revision: str | None = None) -> str:
    """Return what an error of the client means and what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, GatedRepoError):
            return "access to it is gated; ask for it on its page on the Hub, then log in with `hf auth login`"
        if isinstance(cause, RepositoryNotFoundError):
            if cause.response.status_code == 401:
                return "there is no such repository, or it is private and you are not logged in; check name or log in"
            return "there is no such repository that your login may see; check the name"
        if isinstance(cause, RevisionNotFoundError):
            return f"it has no revision {revision or 'main'!r}; expected a branch, a tag or a commit"
        if isinstance(cause, RemoteEntryNotFoundError):
            return "a file that it should hold is not there"
        if isinstance(cause, HfHubHTTPError):
            return _of_status(cause.response.status_code)
        if isinstance(cause, HFValidationError):
            return "this is not an id of the Hub; expected org/name"
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "it is not in the cache, and HF_HUB_OFFLINE keeps the Hub from being asked"
    return "it is not in the cache, and the Hub can't be reached or broke off; check the connection and try again"


def _of_status(status: int) -> str:
    from huggingface_hub import get_token

    meanings = {
        401: "the Hub does not accept your token; log in again with `hf auth login`" if get_token() else NO_TOKEN,
        403: "your token does not allow this; it needs access to this repository, with write permission for a push",
        404: "the Hub does not know what was asked for; check the name and the revision",
        409: "the Hub has it already",
        412: "the branch has moved since it was looked at; nothing was written, push again",
        429: "the Hub asks to slow down; try again later",
    }
    return meanings.get(status, f"the Hub failed with status {status}; try again later")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_hub(error: BaseException) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RevisionResolutionError

    if isinstance(error, (EntryNotFoundError, HfHubHTTPError, HFValidationError, RevisionResolutionError)):
        return True
    if isinstance(error, OSError):
        return error.filename is None  # with a name it is of this machine's disk
    return is_of_the_network(error)


def is_of_the_network(error: BaseException) -> bool:
    """Tell whether an error is one of the client's HTTP library: httpx in some of its versions, httpx2 in others."""
    return type(error).__module__.split(".")[0] in ("httpx", "httpx2")

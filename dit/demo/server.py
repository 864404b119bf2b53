"""The server of the page: the loopback address alone, and of what gradio can serve only what the page needs.

Requests for anything else are answered here and never reach gradio: its routes for files, proxies, recordings and
monitoring are closed. A page of another site can't talk to it either, by a name that leads here or by a form.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from dit.demo.form import MAX_UPLOAD
from dit.demo.models import Models
from dit.demo.pictures import PREFIX, Pictures
from dit.errors import ConfigError
from dit.making import Making

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
MAX_BODY = MAX_UPLOAD + 2**20
"""Bytes of a request: an upload and what surrounds it."""
OPEN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json")
"""Addresses of the page itself."""
OPEN_BELOW = (
    *("/assets/", "/static/", "/svelte/"),
    *(f"/gradio_api/{name}" for name in ("queue/", "heartbeat/", "upload", "startup-events", "info", "cancel")),
)
"""What addresses may begin with."""
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'none'"
)
"""What the browser may load: nothing from elsewhere."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """An application in front of another one, which answers what that one must not see.

    Args:
        app: the page.
        pictures: what it has made.
    """

    def __init__(self, app: App, pictures: Pictures) -> None:
        self._app, self._pictures = app, pictures

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or let it through (ASGI)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            await send({"type": "websocket.close"})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        if not _is_from_here(headers):
            await _answer(send, 403, b"this page is for this machine alone")
        elif path.startswith(PREFIX):
            file = self._pictures.get(path)
            kind = "text/plain" if file is None else "image/png"
            await _answer(send, *((404, b"this picture is gone") if file is None else (200, file)), kind=kind)
        elif not is_open(path):
            await _answer(send, 404, b"there is no such page")
        elif int(headers.get("content-length") or 0) > MAX_BODY:
            await _answer(send, 413, f"expected at most {MAX_UPLOAD} bytes".encode())
        else:
            await self._app(scope, _bounded(receive), _with_policy(send))


def is_open(path: str) -> bool:
    """Tell whether an address is one that the page needs."""
    return ".." not in path and "\\" not in path and (path in OPEN or path.startswith(OPEN_BELOW))


def _is_from_here(headers: MutableMapping[str, str]) -> bool:
    """Tell whether the browser asked this machine by its own name, and for a page of it."""
    names = [urlsplit(f"//{headers.get('host', '')}").hostname]
    if "origin" in headers:
        names.append(urlsplit(headers["origin"]).hostname)
    return all(name in HOSTS for name in names)


def _bounded(receive: Receive) -> Receive:
    """Cut a request that is longer than it said."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= MAX_BODY else {"type": "http.disconnect"}

    return bounded


def _with_policy(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_policy_headers()]
        await send(message)

    return sent


def _policy_headers() -> Iterable[tuple[bytes, bytes]]:
    yield b"content-security-policy", POLICY.encode()
    yield b"x-content-type-options", b"nosniff"
    yield b"referrer-policy", b"no-referrer"


async def _answer(send: Send, status: int, body: bytes, *, kind: str = "text/plain") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *_policy_headers()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application(models: Models, folder: str) -> App:
    """Return the page of these models as an ASGI application; what is uploaded goes into the folder."""
    os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["MPLCONFIGDIR"] = folder  # where matplotlib is, gradio imports it, and it keeps a list of fonts
    import gradio as gr
    from fastapi import FastAPI

    from dit.demo.desk import Desk
    from dit.demo.jobs import Jobs
    from dit.demo.page import STYLE, build, theme

    pictures, jobs = Pictures(), Jobs()
    first = models.names[0]
    jobs.submit("the server", lambda _: models.load(first, Making()))  # while the first visitor looks around
    options = {"theme": theme(), "css": STYLE, "footer_links": [], "max_file_size": MAX_UPLOAD, "ssr_mode": False}
    app = FastAPI(openapi_url=None)
    blocks = build(Desk(models, jobs, pictures))
    gr.mount_gradio_app(app, blocks, "/", show_error=False, run_history=False, enable_monitoring=False, **options)
    return Guard(app, pictures)


def serve(sources: Sequence[str], port: int) -> None:
    """Serve the page until the process is interrupted.

    Args:
        sources: models besides the embedded ones.
        port: on the loopback address; 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or there is no such source.
    """
    import uvicorn

    models = Models(sources)
    listening = _listen(port)
    port = listening.getsockname()[1]
    with TemporaryDirectory(prefix="dit_demo_") as folder:
        app = application(models, folder)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        print(f"http://{ADDRESS}:{port}", flush=True)
        with suppress(KeyboardInterrupt):  # the usual end
            uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen()  # so that whoever reads the address is answered, if only in a moment
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--port: expected a free port, found {port} ({reason}); choose another, or 0") from None
    return listening

"""A double of the Hub: enough of its protocol for the unmodified client to push and pull, on 127.0.0.1.

Large files live at another origin (http://localhost instead of http://127.0.0.1), which must see no token.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, NamedTuple
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "s3cretTokenOfTheTests"
FILTERED = "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"  # of the client's own code
LFS_SUFFIXES = (".safetensors", ".png", ".bin", ".pt")


def connect(monkeypatch, endpoint):
    """Let the client, which read its address when it was imported, talk to another one."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def flip_last_byte_of_weights(times):
    """Answer GETs of large files with a changed byte; the first time to the given number of times."""
    left = [times]

    def fault(handler):
        if handler.command == "GET" and handler.url.startswith("/lfs/") and left[0] > 0:
            content = bytearray(handler.hub.objects[handler.url.rpartition("/")[2]])
            if content[8:9] != b"{":
                return False
            left[0] -= 1
            content[-1] ^= 1
            handler.reply(200, bytes(content))
            return True
        return False

    return fault


@dataclass
class File:
    """A file of a commit."""

    content: bytes
    is_lfs: bool = False

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob_id(self):
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.is_lfs else self.blob_id

    @property
    def facts(self):
        size, sha256 = len(self.content), self.sha256
        lfs = {"lfs": {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": 134}} if self.is_lfs else {}
        return {"size": size, **lfs}


@dataclass
class Repository:
    """Commits, and the branches and tags that point at them."""

    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    is_private: bool = False
    is_gated: bool = False

    def commit(self, files, branch="main", message=""):
        sha = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        self.messages[sha] = message
        return sha

    def resolve(self, revision):
        return revision if revision in self.commits else self.refs.get(revision)


class Request(NamedTuple):
    """What a client sent."""

    method: str
    host: str
    path: str
    authorization: str | None


class Hub:
    """The server; use it as a context manager."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by their SHA-256
        self.requests: list[Request] = []
        self.faults: list[Callable] = []  # called with each handler; one that returns True has answered
        double = self

        class Handler(_Handler):
            hub = double

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.other_origin = f"http://localhost:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def add(self, name, files, **attributes):
        """Make a repository with one commit of {path: bytes}."""
        repository = self.repositories.setdefault(name, Repository(**attributes))
        repository.commit({path: File(data, path.endswith(LFS_SUFFIXES)) for path, data in files.items()})
        for file in repository.commits[repository.refs["main"]].values():
            self.objects[file.sha256] = file.content
        return repository


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionResetError, BrokenPipeError):
            self.close_connection = True

    def reply(self, status, body=b"", headers=None, *, is_head=False):
        content = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        self.send_response(status)
        if isinstance(body, (dict, list)):
            self.send_header("Content-Type", "application/json")
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    def refuse(self, status, code, message="refused"):
        self.reply(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message},
                   is_head=self.command == "HEAD")  # fmt: skip

    def answer(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.read_chunks()
        parts = urlsplit(self.path)
        self.url, self.query = unquote(parts.path), parts.query
        authorization = self.headers.get("Authorization")
        self.hub.requests.append(Request(self.command, self.headers["Host"], self.url, authorization))
        if any(fault(self) for fault in list(self.hub.faults)):
            return
        for method, pattern, function in ROUTES:
            match = re.fullmatch(pattern, self.url)
            if match and self.command in method:
                function(self, *match.groups())
                return
        self.refuse(404, "EntryNotFound", f"no route for {self.command} {self.url}")

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - names of the standard library

    def read_chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def is_known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def find(self, name, revision="main"):
        """Return (repository, commit), or answer with the Hub's error and return None."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.is_private and not self.is_known()):
            self.refuse(404 if self.is_known() else 401, "RepoNotFound")
            return None
        sha = repository.resolve(revision)
        if sha is None:
            self.refuse(404, "RevisionNotFound")
            return None
        return repository, sha

    def whoami(self):
        if not self.is_known():
            return self.refuse(401, "Unauthorized")
        return self.reply(200, {"name": "someone", "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def create(self):
        if not self.is_known():
            return self.refuse(401, "Unauthorized", "Invalid credentials")
        request = json.loads(self.body)
        name = f"{request.get('organization') or 'someone'}/{request['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}"}
        if name in self.hub.repositories:
            return self.reply(409, url)
        repository = Repository(is_private=bool(request.get("private") or request.get("visibility") == "private"))
        repository.commit({".gitattributes": File(b"*.safetensors filter=lfs\n")}, message="initial commit")
        self.hub.repositories[name] = repository
        return self.reply(200, url)

    def preupload(self, name, revision):
        if not self.find(name, revision):
            return
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
             "shouldIgnore": False}
            for file in json.loads(self.body)["files"]
        ]  # fmt: skip
        self.reply(200, {"files": files})

    def lfs_batch(self, name):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.other_origin}/lfs/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.endpoint}/{name}.git/info/lfs/verify"},
                }
            objects.append(entry)
        self.reply(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self.reply(200)

    def lfs_get(self, oid):
        content = self.hub.objects[oid]
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.reply(206 if start else 200, content[start:])

    def commit(self, name, revision):
        if not self.is_known():
            return self.refuse(401, "Unauthorized")
        if not (found := self.find(name, revision)):
            return None
        repository, parent = found
        files = dict(repository.commits[parent])
        header = {}
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                header = value
            elif entry["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif entry["key"] == "lfsFile":
                files[value["path"]] = File(self.hub.objects[value["oid"]], is_lfs=True)
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        if header.get("parentCommit") not in (None, parent):
            return self.refuse(412, "PreconditionFailed", "A commit has happened since")
        branch = f"refs/pr/{len(repository.commits)}" if "create_pr=1" in self.query else revision
        sha = repository.commit(files, branch, header["summary"])
        reply = {"commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "success": True}
        if branch != revision:
            reply["pullRequestUrl"] = f"{self.hub.endpoint}/{name}/discussions/{branch.rpartition('/')[2]}"
        return self.reply(200, reply)

    def info(self, name, revision=None):
        if not (found := self.find(name, revision or "main")):
            return
        repository, sha = found
        siblings = [
            {"rfilename": path, "blobId": file.blob_id} | file.facts for path, file in repository.commits[sha].items()
        ]
        self.reply(200, {"_id": "1", "id": name, "modelId": name, "sha": sha, "private": repository.is_private,
                         "gated": repository.is_gated, "siblings": siblings, "tags": [], "downloads": 0})  # fmt: skip

    def tree(self, name, revision, folder=""):
        if not (found := self.find(name, revision)):
            return None
        start = f"{folder}/" if folder else ""
        files = {path: file for path, file in found[0].commits[found[1]].items() if path.startswith(start)}
        if folder and not files:
            return self.refuse(404, "EntryNotFound")
        entries = {}
        for path, file in files.items():
            first, inside, _ = path.removeprefix(start).partition("/")
            if inside and "recursive=true" not in self.query.lower():
                entries[start + first] = {"type": "directory", "path": start + first, "oid": "0" * 40, "size": 0}
            else:
                entries[path] = {"type": "file", "path": path, "oid": file.blob_id} | file.facts
        return self.reply(200, list(entries.values()))

    def tag(self, name, revision):
        if not (found := self.find(name, revision)):
            return None
        repository, sha = found
        name_of_tag = json.loads(self.body)["tag"]
        if name_of_tag in repository.refs:
            return self.refuse(409, "Conflict", "tag exists")
        repository.refs[name_of_tag] = sha
        return self.reply(200, {})

    def branch(self, name, new):
        if found := self.find(name):
            found[0].refs.setdefault(new, found[1])
            self.reply(200, {})

    def file(self, name, revision, path):
        if not (found := self.find(name, revision)):
            return None
        repository, sha = found
        if repository.is_gated:
            return self.refuse(403 if self.is_known() else 401, "GatedRepo")
        file = repository.commits[sha].get(path)
        if file is None:
            return self.refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.etag}"'}
        is_head = self.command == "HEAD"
        if not file.is_lfs:
            return self.reply(200, file.content, headers, is_head=is_head)
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        headers["Location"] = f"{self.hub.other_origin}/lfs/{file.sha256}"
        return self.reply(302, b"", headers, is_head=is_head)


# A data set lives beside the models here, under one name.
_REPOSITORY, _REVISION = r"([\w.-]+/[\w.-]+)", r"([^/]+|refs/pr/\d+)"
_API, _GIT = f"/api/(?:models|datasets)/{_REPOSITORY}", f"/(?:datasets/)?{_REPOSITORY}"
ROUTES = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", lambda handler: handler.reply(200, {"errors": [], "warnings": []})),
    ("POST", f"{_API}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", f"{_GIT}.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("POST", f"{_GIT}.git/info/lfs/verify", lambda handler, name: handler.reply(200, {})),
    ("PUT", "/lfs/([0-9a-f]{64})", _Handler.lfs_put),
    ("GET", "/lfs/([0-9a-f]{64})", _Handler.lfs_get),
    ("POST", f"{_API}/commit/{_REVISION}", _Handler.commit),
    ("GET", _API, _Handler.info),
    ("GET", f"{_API}/revision/{_REVISION}", _Handler.info),
    ("GET", f"{_API}/tree/{_REVISION}", _Handler.tree),
    ("GET", f"{_API}/tree/{_REVISION}/(.+)", _Handler.tree),
    ("POST", f"{_API}/tag/{_REVISION}", _Handler.tag),
    ("POST", f"{_API}/branch/{_REVISION}", _Handler.branch),
    ("GET HEAD", f"{_GIT}/resolve/([0-9a-f]{{40}}|[\\w.-]+|refs/pr/\\d+)/(.+)", _Handler.file),
]

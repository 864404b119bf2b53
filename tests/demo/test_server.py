"""The server without a browser: what it gives to whom, and what it leaves behind."""

import http.client
import json
import socket

import pytest

from dit.demo.server import ADDRESS, MAX_BODY, is_open
from tests.command import fails
from tests.demo.conftest import serving

SECRET = "nobody may read this"
TRAVERSALS = [
    "/gradio_api/file={}",
    "/gradio_api/file/{}",
    "/file={}",
    "/file/{}",
    "/gradio_api/proxy=file://{}",
    "/gradio_api/proxy=http://127.0.0.1/",
    "/static/../../../../../../../../../..{}",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{}",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..{}",
    "/static/..%5c..%5c..{}",
    "/static//{}",
    "/assets/{}",
    "/assets/../../../../../../../../../..{}",
    "/svelte/../../../../../../../../../..{}",
    "/pictures/..{}",
    "/pictures/{}",
    "/gradio_api/upload_progress/../file={}",
    "/gradio_api/queue/../file={}",
    "/gradio_api/queue/%2e%2e/file={}",
    "/gradio_api/custom_component/x/client/component/..%2f..{}",
    "/gradio_api/stream/a/1/1/playlist-file?path={}",
    "/?deep_link=..%2f..{}",
    "/favicon.ico/..{}",
    "/theme.css/../../..{}",
]


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A file of this machine, which the server could read."""
    file = tmp_path_factory.mktemp("secrets") / "secret.txt"
    file.write_text(SECRET)
    return file


def ask(server, method, path, *, body=None, **headers):
    """Send a request as it stands, without what clients do to paths."""
    connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=20)
    try:
        connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace"), dict(answer.getheaders())
    finally:
        connection.close()


def run_job(server, session, **values):
    """Do what the page does when the button is pressed, with these values in the fields; return all that comes back."""
    _, text, _ = ask(server, "GET", "/config")
    config = json.loads(text)
    names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    start = next(i for i, name in names.items() if name == "sample-start")
    job = next(one for one in config["dependencies"] if [start, "click"] in one["targets"])
    own = {part["id"]: part["props"].get("value") for part in config["components"]}
    data = [values.get(names[i], own[i]) for i in job["inputs"]]
    body = json.dumps({"data": data, "fn_index": job["id"], "session_hash": session})
    status, text, _ = ask(server, "POST", "/gradio_api/queue/join", body=body, content_type="application/json")
    if status != 200:
        return text
    return ask(server, "GET", f"/gradio_api/queue/data?session_hash={session}")[1]


def test_the_page_is_there_and_says_what_a_browser_may_load(server):
    status, text, headers = ask(server, "GET", "/")
    assert status == 200
    assert "dit demo" in text
    assert headers["content-security-policy"].startswith("default-src 'self'; ")


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_file_of_the_server_can_be_read(server, secret, path):
    for file in (secret, "/etc/passwd"):
        status, text, _ = ask(server, "GET", path.format(file))
        assert SECRET not in text
        assert "root:" not in text
        assert status in (200, 403, 404), text  # 200: the page itself, of an address with a question mark
        assert (status == 200) == path.startswith("/?")


@pytest.mark.parametrize("place", ["path", "url"])
def test_a_file_that_was_not_uploaded_is_no_picture(server, secret, place):
    told = {"path": str(secret), "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
    told |= {"url": f"file://{secret}"} if place == "url" else {}
    asked = {"kind": "Invert a picture", "picture": told, "sample-classes": ["1"]}
    seen = run_job(server, f"thief{place}", **asked)
    assert SECRET not in seen
    assert '"success": false' in seen.replace('":false', '": false')


def test_a_job_runs_and_an_odd_one_gets_a_message(server):
    seen = run_job(server, "honest", **{"sample-model": "dit_ti_2.mnist", "sample-steps": 2, "sample-solver": "euler"})
    assert "Download all as one picture" in seen
    seen = run_job(server, "odd", **{"sample-model": "dit_ti_2.mnist", "sample-steps": 0})
    assert "Steps: expected a whole number" in seen
    seen = run_job(server, "script", **{"sample-model": "dit_ti_2.mnist", "sample-classes": ["<script>"]})
    assert "no class is named &#x27;&lt;script&gt;&#x27;" in seen
    assert "<script>" not in seen
    assert '"success":false' in run_job(server, "text", **{"sample-steps": "x"})


def test_a_model_that_fails_to_load_is_told_without_its_path(server, broken):
    seen = run_job(server, "broken", **{"sample-model": "broken_digits"})
    assert "Loading broken_digits failed: " in seen
    assert "model.safetensors" in seen
    assert str(broken.parent) not in seen
    assert str(broken.parent) not in ask(server, "GET", "/config")[1]


def test_other_sites_and_other_names_get_nothing(server):
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403
    assert ask(server, "GET", "/", Host=f"localhost:{server.port}")[0] == 200
    sent = {"body": "{}", "Origin": "https://evil.example", "content_type": "text/plain"}
    assert ask(server, "POST", "/gradio_api/queue/join", **sent)[0] == 403
    assert ask(server, "GET", "/", Origin="null")[0] == 403


def test_large_requests_are_refused(server):
    assert ask(server, "POST", "/gradio_api/upload", body=bytes(MAX_BODY + 1))[0] == 413
    parts = (bytes(2**20) for _ in range(20))  # without a length
    try:
        status = ask(server, "POST", "/gradio_api/upload", body=parts, content_type="multipart/form-data; boundary=x")[
            0
        ]
    except (ConnectionError, http.client.HTTPException):
        status = 0  # cut off
    assert status != 200
    assert ask(server, "GET", "/")[0] == 200


def test_an_upload_stays_in_the_temporary_folder(server, secret):
    name = "../../../" + secret.name
    part = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\nmine\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x"
    status, text, _ = ask(server, "POST", "/gradio_api/upload", body=part, content_type=kind)
    assert status == 200, text
    (path,) = json.loads(text)
    assert path.startswith(str(server.temporary))
    assert secret.read_text() == SECRET


def test_it_listens_to_this_machine_alone(server):
    found = socket.getaddrinfo(socket.gethostname(), server.port, socket.AF_INET, socket.SOCK_STREAM)
    for host in {address[0] for *_, address in found if not address[0].startswith("127.")}:
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex((host, server.port)) != 0


def test_nothing_is_left_behind(tmp_path):
    with serving(tmp_path) as running:
        run_job(running, "someone", **{"sample-steps": 1})
        assert list(running.folder.iterdir()) == []
    assert [path for path in running.home.rglob("*") if path.is_file()] == []
    assert [path.name for path in running.temporary.iterdir()] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", True),
        ("/config", True),
        ("/gradio_api/queue/join", True),
        ("/gradio_api/run/predict", False),
        ("/gradio_api/file=x", False),
        ("/assets/../x", False),
        ("/monitoring", False),
        ("/configs", False),
    ],
)
def test_open_addresses(path, expected):
    assert is_open(path) == expected


def test_a_taken_port_is_told(capsys):
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        message = fails(capsys, "demo", "--port", other.getsockname()[1])
    assert message.startswith("--port: expected a free port, found ")
    assert fails(capsys, "demo", "--port", 99999).startswith("--port: expected a free port, found 99999")

"""Push and pull against a double of the Hub, with its unmodified client: rows H1 to H8 of the fault matrix."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dit.cli import main
from dit.errors import ConfigError, DitError
from dit.files import cache_folder
from dit.hub_files import download
from dit.hub_ids import HubId
from dit.zoo.convert import convert
from dit.zoo.folder.config import Provenance, read_config, write_config
from dit.zoo.hub.pull import pull
from dit.zoo.hub.push import check_license, push
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from tests.hub_double import FILTERED, TOKEN, connect, flip_last_byte_of_weights

NAME = "someone/digits"
pytestmark = pytest.mark.filterwarnings(FILTERED)


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def set_provenance(folder, **facts):
    config = read_config(folder)
    write_config(folder, config.model_copy(update={"provenance": config.provenance.updated(**facts)}))
    return folder


@pytest.fixture
def exported(exported_once, tmp_path):
    shutil.copytree(exported_once, tmp_path / "exported")
    return set_provenance(tmp_path / "exported", license="apache-2.0")


@pytest.fixture
def published(hub, exported):
    push(exported, NAME)
    return hub


def test_what_is_pushed_comes_back_bit_equal(hub, exported, tmp_path):
    pushed = push(exported, NAME, tag="v1")
    assert pushed.address.startswith(f"{hub.endpoint}/{NAME}/commit/")
    back = pull(NAME, tmp_path / "back")
    assert (back / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()
    ours, theirs = load_pipeline(exported), load_pipeline(NAME)
    torch.testing.assert_close(ours.sample_latents([3, 4], seed=1), theirs.sample_latents([3, 4], seed=1))
    assert set(files_of(back)) == {
        "README.md", "config.json", "loss.png", "metrics.jsonl", "model.safetensors", "recipe.yaml", "samples.png",
    }  # fmt: skip
    repository = hub.repositories[NAME]
    assert repository.refs["v1"] == repository.refs["main"]
    assert len(repository.commits) == 2  # the Hub's own, and ours
    for phrase in ("license: apache-2.0", "name: digits", f'dit.load_pipeline("{NAME}")', "![Training loss](loss.png)"):
        assert phrase in (back / "README.md").read_text()


def test_only_what_is_allowed_is_pushed(hub, exported):
    for name in (".env", "optimizer.safetensors", "state.bin", "notes.txt", "run.pt", "fake.png"):
        (exported / name).write_bytes(b"secret")
    (exported / "checkpoints").mkdir()
    (exported / "checkpoints" / "model.safetensors").write_bytes(b"x")
    pushed = push(exported, NAME)
    names = set(hub.repositories[NAME].commits[hub.repositories[NAME].refs["main"]])
    assert names - {".gitattributes"} == set(pushed.files)
    assert not names & set(pushed.left_out)
    assert {".env", "optimizer.safetensors", "checkpoints/model.safetensors", "fake.png"} <= set(pushed.left_out)


def test_a_dry_run_shows_all_and_asks_nobody(hub, exported):
    before = files_of(exported)
    shown = push(exported, NAME, dry_run=True)
    assert shown.address is None
    assert shown.files["model.safetensors"] == (exported / "model.safetensors").stat().st_size
    assert shown.card.startswith("---\n")
    assert hub.requests == []
    assert files_of(exported) == before


def test_paths_of_this_machine_are_not_published(hub, exported, tmp_path, capsys):
    (tmp_path / "secret" / "flowers").mkdir(parents=True)
    place = str(tmp_path / "secret" / "flowers")
    set_provenance(exported, data=place)
    recipe = (exported / "recipe.yaml").read_text()
    (exported / "recipe.yaml").write_text(recipe.replace("source: mnist", f"source: {place}"))
    (exported / "eval.json").write_text(json.dumps({"subject": {"source": str(exported)}}))
    assert main(["push", str(exported), NAME]) == 0
    assert f"published by its last part alone: {place}" in capsys.readouterr().err
    files = hub.repositories[NAME].commits[hub.repositories[NAME].refs["main"]]
    assert not [name for name, file in files.items() if str(tmp_path).encode() in file.content]
    assert b"source: flowers" in files["recipe.yaml"].content
    assert place in (exported / "recipe.yaml").read_text()


def test_a_private_repository_a_branch_and_a_pull_request(hub, exported):
    push(exported, NAME, private=True, revision="experiment")
    repository = hub.repositories[NAME]
    assert repository.is_private
    assert "model.safetensors" in repository.commits[repository.refs["experiment"]]
    assert "model.safetensors" not in repository.commits[repository.refs["main"]]
    pushed = push(exported, NAME, create_pr=True)
    assert pushed.address.startswith(f"{hub.endpoint}/{NAME}/discussions/")
    assert "model.safetensors" not in repository.commits[repository.refs["main"]]


def test_a_tag_that_is_there_is_named(published, exported):
    push(exported, NAME, tag="v1")
    with pytest.raises(
        DitError, match=r"the Hub has it already: commit [0-9a-f]{12} was made, but the tag 'v1' was not"
    ):
        push(exported, NAME, tag="v1")


def test_a_diffusers_folder_goes_there_and_back(hub, tmp_path, mnist_codec):
    from tests.zoo.layouts.test_diffusers import exported_model

    native = set_provenance(exported_model(tmp_path / "gaussian", mnist_codec), license="mit", converted_from="x")
    convert(native, tmp_path / "diffusers", to="diffusers", max_shard_size="50KB")
    push(tmp_path / "diffusers", NAME)
    repository = hub.repositories[NAME]
    files = repository.commits[repository.refs["main"]]
    assert b"library_name: diffusers" in files["README.md"].content
    assert {"model_index.json", "transformer/config.json", "vae/config.json", "dit_config.json"} <= set(files)
    expected = load_file(native / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(NAME).state_dict().items())
    assert [path.name for path in cache_folder("zoo").iterdir()] == [f"someone--digits@{repository.refs['main'][:12]}"]
    load_pipeline(NAME)


def test_a_folder_with_code_for_diffusers_goes_there_and_comes_back_without_it(hub, exported, tmp_path):
    set_provenance(exported, license="mit", converted_from="x")
    convert(exported, tmp_path / "folder", to="diffusers")
    pushed = push(tmp_path / "folder", NAME)
    code = {path for path in pushed.files if path.endswith(".py")}
    assert sorted(path.rpartition("_")[0] for path in code) == ["pipeline", "scheduler/flow", "transformer/dit"]
    expected = load_file(exported / "model.safetensors")
    hub.requests.clear()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(NAME).state_dict().items())
    assert not [request.path for request in hub.requests if request.path.endswith(".py")]
    changed = next((tmp_path / "folder").glob("*.py"))
    changed.write_text(changed.read_text() + "\n")
    with pytest.raises(DitError, match="expected the code that `dit convert` wrote"):
        push(tmp_path / "folder", NAME)


def test_only_what_is_needed_is_downloaded_and_only_once(published):
    published.requests.clear()
    for files in ({"config.json", "model.safetensors"}, set()):
        load_model(NAME)
        fetched = {request.path.rpartition("/")[2] for request in published.requests if "/resolve/" in request.path}
        assert fetched == files
        published.requests.clear()


def test_a_revision_is_part_of_a_name(published, exported, tmp_path):
    first = published.repositories[NAME].refs["main"]
    set_provenance(exported, seed=99)
    push(exported, NAME, tag="new")
    assert read_config(pull(f"{NAME}@{first}")).provenance.seed == 3
    assert read_config(pull(NAME, revision="new")).provenance.seed == 99
    assert load_pipeline(NAME, revision=first).config.provenance.seed == 3
    with pytest.raises(ConfigError, match="expected one revision, found 'new' and 'main'"):
        pull(f"{NAME}@new", revision="main")


def test_the_cache_works_offline(published, monkeypatch):
    from huggingface_hub import constants

    expected = load_model(NAME).state_dict()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(NAME).state_dict().items())


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_asked(hub, tmp_path):
    (tmp_path / "x").write_text("precious")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        pull(NAME, tmp_path)
    assert hub.requests == []


# H1: short and damaged downloads


def test_h1_a_flipped_bit_is_noticed_and_fetched_again(published, exported, tmp_path):
    published.faults.append(flip_last_byte_of_weights(1))
    back = pull(NAME, tmp_path / "back")
    assert (back / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()


def test_h1_a_download_that_stays_damaged_is_refused_and_not_kept(published, tmp_path, monkeypatch):
    from huggingface_hub import constants

    published.faults.append(flip_last_byte_of_weights(2))
    with pytest.raises(DitError, match=r"model\.safetensors was damaged on the way, twice"):
        pull(NAME, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DitError, match="it is not in the cache"):
        load_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_model(NAME)


def test_h1_damage_in_the_cache_is_noticed_too(published):
    path = pull(NAME) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(content)
    load_model(NAME)
    assert bytes(content) != path.read_bytes()


def test_h1_a_short_download_is_explained(published, tmp_path):
    def short(handler):
        if handler.command == "GET" and handler.url.startswith("/lfs/"):
            handler.send_response(200)
            handler.send_header("Content-Length", "999999")
            handler.end_headers()
            if "Range" not in handler.headers:  # the client goes on as long as there is more
                handler.wfile.write(b"short")
            handler.close_connection = True
            return True
        return False

    published.faults.append(short)
    with pytest.raises(DitError, match=f"^{NAME}: ") as caught:
        pull(NAME, tmp_path / "back")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()
    published.faults.clear()
    pull(NAME, tmp_path / "back")


# H2: who may read what


def message_of(function, *arguments, **keywords):
    with pytest.raises(DitError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message


def refuse_all(status, code=""):
    def fault(handler):
        handler.refuse(status, code)
        return True

    return fault


def test_h2_every_refusal_has_its_own_message(published, monkeypatch):
    from huggingface_hub import constants

    messages = {
        "typo": message_of(pull, "someone/digitz"),
        "revision": message_of(pull, NAME, revision="v9"),
    }
    published.repositories[NAME].is_gated = True
    messages["gated"] = message_of(pull, NAME)
    published.repositories[NAME].is_gated = False
    for status in (403, 500):
        published.faults.append(refuse_all(status))
        messages[status] = message_of(pull, NAME)
        published.faults.clear()
    monkeypatch.delenv("HF_TOKEN")
    published.repositories[NAME].is_private = True
    messages["private"] = message_of(pull, NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    messages["offline"] = message_of(pull, NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    connect(monkeypatch, "http://127.0.0.1:9")
    messages["no network"] = message_of(pull, NAME)
    expected = {
        "typo": "there is no such repository that your login may see; check the name",
        "revision": "it has no revision 'v9'",
        "gated": "access to it is gated",
        403: "your token does not allow this",
        500: "the Hub failed with status 500",
        "private": "there is no such repository, or it is private and you are not logged in",
        "offline": "HF_HUB_OFFLINE keeps the Hub from being asked",
        "no network": "the Hub can't be reached",
    }
    for fault, phrase in expected.items():
        assert phrase in messages[fault], (fault, messages[fault])
    assert len(set(messages.values())) == len(messages)
    assert all(NAME[:-1] in message for message in messages.values())


def test_h2_a_push_that_is_not_allowed_is_explained(hub, exported, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token; log in with `hf auth login`" in message_of(push, exported, NAME)
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_anotherTokenOfTheTests")
    assert "the Hub does not accept your token" in message_of(push, exported, NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults.append(lambda handler: handler.url.endswith("/commit/main") and refuse_all(403)(handler))
    assert "it needs access to this repository, with write permission" in message_of(push, exported, NAME)


# H3, H4: what a repository may hold


def test_h3_a_repository_with_only_pickles_is_refused(hub):
    for name in ("pytorch_model.bin", "transformer/diffusion_pytorch_model.bin"):
        hub.add("them/old", {"config.json": b"{}", name: b"x", "README.md": b"x"})
        assert f"found only {name}: pickles can run code and are not opened" in message_of(pull, "them/old")
    assert not [request for request in hub.requests if "/resolve/" in request.path]
    snapshot, _ = download(HubId("them/old", None), [name], may_be_pickle=True)  # as an entry's own file is fetched
    assert (snapshot / name).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"README.md": b"x"}, "expected safetensors, found no weights"),
        ({"vae/diffusion_pytorch_model.safetensors": b"x"}, "expected model.safetensors, found none"),
        ({"model.safetensors": pickle.dumps([1])}, "model.safetensors: expected safetensors, found a pickle"),
        ({"model.safetensors": b"x" * 99}, "model.safetensors: it is damaged"),
        ({"model.safetensors.index.json": b'{"weight_map": {"pos_embed": "../../x"}}', "model-1.safetensors": b"x"},
         "weight_map names '../../x'; expected a .safetensors file of the same folder"),
    ],
)  # fmt: skip
def test_h4_what_does_not_hold_weights_is_not_pulled(hub, exported, tmp_path, capsys, files, problem):
    hub.add("them/evil", {"config.json": (exported / "config.json").read_bytes()} | files)
    assert main(["pull", "them/evil", str(tmp_path / "back")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]  # above it the client's progress
    assert message.startswith("dit: them/evil: ")
    assert problem in message
    assert not list(tmp_path.glob("*back*"))


# H5: pushes that die


def run_python(code, hub, tmp_path, **environment):
    env = os.environ | {
        "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf_home"), "DIT_CACHE": str(tmp_path / "subprocess_cache"),
    } | environment  # fmt: skip
    root = Path(__file__).parents[3]
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, check=False)


def test_h5_a_push_that_is_killed_leaves_main_as_it_was(published, exported, tmp_path):
    before = dict(published.repositories[NAME].refs)
    set_provenance(exported, seed=99)
    code = f"from dit.zoo.hub.push import push; push({str(exported)!r}, {NAME!r})"
    done = run_python(code, published, tmp_path, DIT_FAILPOINT="push:before-commit:kill")
    assert "failpoint fired: push:before-commit:kill" in done.stderr
    assert done.returncode == -9
    assert published.repositories[NAME].refs == before


def test_h5_a_push_that_dies_while_uploading_leaves_main_as_it_was(published, exported):
    before = dict(published.repositories[NAME].refs)
    weights = load_file(exported / "model.safetensors")
    weights["pos_embed"] += 1
    from safetensors.torch import save_file

    save_file(weights, exported / "model.safetensors")
    published.faults.append(lambda handler: handler.command == "PUT" and refuse_all(403)(handler))
    message_of(push, exported, NAME)
    assert published.repositories[NAME].refs == before


def test_h5_a_branch_that_moved_is_not_overwritten(published, exported):
    repository = published.repositories[NAME]

    def move(handler):
        if "/preupload/" in handler.url:
            repository.commit(repository.commits[repository.refs["main"]], message="somebody else's")
            published.faults.clear()
        return False

    published.faults.append(move)
    assert "the branch has moved since it was looked at; nothing was written" in message_of(push, exported, NAME)
    assert repository.messages[repository.refs["main"]] == "somebody else's"


# H6: the token appears nowhere

PUSH_AND_PULL = """
import logging, traceback
logging.basicConfig(level=logging.DEBUG)
from dit.zoo.hub.push import push
from dit.zoo.hub.pull import pull
folder, names, back = {arguments!r}
for name in names:
    try:
        print(push(folder, name).card)
        print("pulled", pull(name, back))
    except Exception:
        traceback.print_exc()
"""


def test_h6_the_token_is_in_no_output_file_or_other_origin(hub, exported, tmp_path):
    for status in (401, 403, 500):
        hub.faults.append(
            lambda handler, status=status: f"fails{status}/commit/" in handler.url and refuse_all(status)(handler)
        )
    names = ["someone/fails401", "someone/fails403", "someone/fails500", NAME]
    code = PUSH_AND_PULL.format(arguments=(str(exported), names, str(tmp_path / "back")))
    done = run_python(code, hub, tmp_path, HF_DEBUG="1", HF_HUB_VERBOSITY="debug")
    assert done.stderr.count("dit.errors.DitError") == 3
    assert "pulled" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    for folder in (exported, tmp_path / "back", tmp_path / "subprocess_cache", tmp_path / "hf_home"):
        assert not [name for name, content in files_of(folder).items() if TOKEN.encode() in content]
    for file in hub.repositories[NAME].commits[hub.repositories[NAME].refs["main"]].values():
        assert TOKEN.encode() not in file.content
    assert any(request.authorization == f"Bearer {TOKEN}" for request in hub.requests)
    elsewhere = [request for request in hub.requests if request.host.startswith("localhost")]
    assert elsewhere
    assert not [request for request in elsewhere if request.authorization]


def test_h6_a_file_that_holds_the_token_is_not_pushed(hub, exported):
    (exported / "recipe.yaml").write_text(f"# {TOKEN}\n")
    message = message_of(push, exported, NAME)
    assert message == "recipe.yaml: it holds your token for the Hub; remove it and make a new one"
    assert hub.requests == []


# H8: one commit throughout


def test_h8_a_branch_that_moves_during_a_pull_gives_one_commit(published, exported, tmp_path):
    repository = published.repositories[NAME]
    first = repository.refs["main"]

    def move(handler):
        if "/resolve/" in handler.url and repository.refs["main"] == first:
            repository.commit({name: file for name, file in repository.commits[first].items() if name != "recipe.yaml"})
        return False

    published.faults.append(move)
    back = pull(NAME, tmp_path / "back")
    assert repository.refs["main"] != first
    assert (back / "recipe.yaml").is_file()
    resolved = [request.path for request in published.requests if "/resolve/" in request.path]
    assert resolved
    assert all(f"/resolve/{first}/" in path for path in resolved)


# what may be published


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        ({"base_license": "cc-by-nc-4.0"}, "cc-by-nc-4.0"),
        ({"license": "mit", "base_license": "mit"}, "apache-2.0"),
        ({"license_name": "x", "license_link": "https://x"}, "other"),
    ],
)
def test_licences_that_may_be_chosen(exported, facts, chosen):
    config = read_config(exported).model_copy(update={"provenance": Provenance(**facts)})
    assert check_license(config, chosen) == chosen


@pytest.mark.parametrize(
    ("facts", "chosen", "message"),
    [
        ({}, None, "card: license: expected a license of the weights, found none"),
        ({"base_license": "cc-by-nc-4.0", "base_model": "facebook/DiT-XL-2-256"}, "apache-2.0",
         "expected cc-by-nc-4.0, which the weights inherit from facebook/DiT-XL-2-256, found apache-2.0"),
        ({}, "apache", "card: license: expected an identifier of the Hub, or `other` with license_name and "
         "license_link in the provenance of config.json, found 'apache'. Did you mean 'apache-2.0'"),
        ({}, "other", "card: license other: expected license_name and license_link"),
    ],
)  # fmt: skip
def test_licences_that_may_not_be_chosen(hub, exported, facts, chosen, message):
    config = read_config(exported)
    write_config(
        exported, config.model_copy(update={"provenance": Provenance(data="mnist", code_version="1", **facts)})
    )
    assert message in message_of(push, exported, NAME, license=chosen)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda f: set_provenance(f, data=""), "training data"),
        (lambda f: set_provenance(f, code_version=None), "code version"),
        (lambda f: (f / "samples.png").unlink(), r"samples\.png"),
        (lambda f: write_config(f, read_config(f).model_copy(update={"id2label": {}})), "class names"),
        (lambda f: write_config(f, read_config(f).model_copy(update={"latents": None})), "autoencoder"),
    ],
)
def test_a_card_with_an_empty_required_field_is_not_pushed(hub, exported, change, field):
    change(exported)
    with pytest.raises(DitError, match=f"its card can't be published without {field}$"):
        push(exported, NAME)
    assert hub.requests == []


def test_a_damaged_folder_is_not_pushed(hub, exported):
    content = bytearray((exported / "model.safetensors").read_bytes())
    (exported / "model.safetensors").write_bytes(content[:-4])
    with pytest.raises(DitError, match=r"model\.safetensors: it is damaged"):
        push(exported, NAME)
    with pytest.raises(DitError, match="expected an exported folder"):
        push(exported.parent, NAME)
    with pytest.raises(ConfigError, match="expected an id of the Hub, org/name"):
        push(exported, "digits")
    assert hub.requests == []

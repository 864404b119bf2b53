"""Networks in parts: every family computes as whole, little is held, and groups hold what they should."""

import json
from pathlib import Path

import pytest
import torch

from dit.errors import ConfigError
from dit.training.ranks.sharding import group_size, own_part, put, shard_like, whole_of
from tests.models.test_families import SMALL
from tests.training.forks import end, start

SCRIPT = Path(__file__).with_name("hold_parts.py")


def found_in(count, folder, what, **options):
    done = end(start(count, folder, SCRIPT, FOUND=str(folder / "found.json"), WHAT=what, **options), folder)
    assert done.codes == [0] * count, done.said
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return found_in(2, tmp_path_factory.mktemp("parts"), "families")


@pytest.mark.parametrize("name", SMALL)
def test_a_family_in_parts_has_the_losses_and_gradients_of_the_whole(found, name):
    loss, gradient, count = found["families"][name]
    assert loss < 1e-6
    assert gradient < 1e-4  # of float32 sums in another order, relative to the largest of a tensor
    assert count > 20


@pytest.mark.parametrize("kind", ["parameters", "gradients", "optimizer", "averages"])
def test_two_processes_hold_little_more_than_half(found, kind):
    held = {how: found["held"][how][kind] for how in ("none", "fsdp2")}
    assert held["fsdp2"] <= 0.6 * held["none"]


def test_two_processes_hold_little_more_than_half_in_all(found):
    whole, parts = (sum(found["held"][how].values()) for how in ("none", "fsdp2"))
    print(f"{parts} of {whole} bytes: {parts / whole:.3f}")
    assert parts <= 0.6 * whole


def test_groups_hold_equal_parts(tmp_path):
    found = found_in(4, tmp_path, "groups", local=2)
    assert found["apart"] < 1e-5
    assert found["norm"] == pytest.approx(1, abs=1e-5)
    assert found["part"] == 0.5
    assert found["uneven"]
    assert found["no gradient"] == [0, 0]  # but there, as where gradients are exchanged whole
    assert found["average"]
    assert found["rows"] == [[0, 3, 6, 9], [12, 15, 18]] * 2


def test_what_is_not_in_parts_stays_as_it_is():
    tensor, values = torch.zeros(2), torch.ones(2)
    assert own_part(tensor) is whole_of(tensor) is tensor
    assert shard_like(tensor, values) is values
    put(tensor, values)
    assert torch.equal(tensor, values)


@pytest.mark.parametrize(("count", "asked", "local"), [(4, 3, None), (4, 4, None), (4, None, None), (2, None, "2")])
def test_groups_that_can_not_be_made_are_refused(monkeypatch, count, asked, local):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    with pytest.raises(ConfigError, match=rf"train\.shard_size: hsdp: expected the size.* of {count} processes, found"):
        group_size(count, asked)


def test_groups_are_those_of_a_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert group_size(32, None) == 8
    assert group_size(32, 4) == 4

"""What breaks digits, and what the digits' features see of it."""

import pytest
import torch
from PIL import Image

from tests.command import load_tool


@pytest.fixture
def tool():
    return load_tool("check_features")


def test_each_way_changes_digits_as_it_says(tool):
    images, _ = tool.balanced(50)
    broken = {name: tool.break_all(name, images) for name in tool.BREAKS}
    for name, found in broken.items():
        assert found.dtype == torch.uint8
        assert found.shape == images.shape
        assert (found != images).flatten(1).any(dim=1).float().mean() > 0.9, name
        assert found.equal(tool.break_all(name, images)), name
    for name in ("a piece erased", "a gap"):
        assert ((broken[name] == images) | (broken[name] == 0)).all()
    assert (broken["a stray stroke"] >= images).all()
    half = broken["a shifted half"]
    assert half[..., :16, :].equal(images[..., :16, :])
    moved = [half[..., 16:, :].eq(images[..., 16:, :].roll(by, dims=-1)).flatten(1).all(dim=1) for by in (4, -4)]
    assert (moved[0] ^ moved[1]).all()
    total = broken["blur"].float().sum() / images.float().sum()
    assert total == pytest.approx(1, abs=0.02)  # pixels are rounded down


def test_the_features_see_broken_digits(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "SHARES", (0.3,))
    assert tool.main(["--num", "500", "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "features.md").read_text().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows] == ["nothing", *tool.BREAKS]
    distances, precisions = ([float(row[column].split()[0]) for row in rows] for column in (2, 3))
    assert all(distance > distances[0] + 1 for distance in distances[1:])
    assert all(precision < precisions[0] for precision in precisions[1:])
    with Image.open(tmp_path / "broken.png") as picture:
        assert picture.height == 66 * (1 + len(tool.BREAKS)) - 2

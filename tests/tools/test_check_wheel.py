"""What a wheel has to hold, and what not."""

import zipfile

from tools.check_wheel import NEEDED, problems


def make(path, names, size=0):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        archive.writestr("dit/large", b"\0" * size)
    return path


def test_a_whole_wheel_has_no_problem(tmp_path):
    assert problems(make(tmp_path / "x.whl", [*NEEDED, "dit_zoo-1.dist-info/RECORD"])) == []


def test_what_is_missing_beside_or_too_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.check_wheel.LIMIT", 2_000)
    wheel = make(tmp_path / "x.whl", [*NEEDED[1:], "tests/test_x.py"], size=3_000)
    assert problems(wheel) == [
        f"{NEEDED[0]}: expected in the wheel, not found",
        "tests: expected nothing beside dit, found it",
        f"x.whl: expected at most 2,000 bytes, found {wheel.stat().st_size:,}",
    ]

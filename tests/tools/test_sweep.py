"""The sweep: every combination once, by `dit evaluate`, from the same start noise."""

import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from dit.errors import ConfigError
from tests.command import load_tool

SOURCE = "dit_ti_2.mnist"


@pytest.fixture
def tool(monkeypatch):
    """The script; `calls` are the command lines that it ran, of which only the report is written."""
    module = load_tool("sweep")
    module.evaluate, module.calls = module.dit, []
    monkeypatch.setattr(module, "dit", lambda argv: module.calls.append(argv) or write_report(argv))
    return module


def write_report(argv, code=0):
    """A distance of 10 / steps + (guidance - 1.5)^2 for heun, half of it for others."""
    options = dict(zip(argv[2::2], argv[3::2], strict=True))
    steps, guidance = int(options.get("--sampling.steps", 5)), float(options.get("--sampling.guidance", 1))
    is_heun = options.get("--sampling.solver", "heun") == "heun"
    report = {
        "num": 90,
        "features": "mnist",
        "frechet_distance": (10 / steps + (guidance - 1.5) ** 2) * (1 if is_heun else 0.5),
        "frechet_standard_error": 0.125,
        "frechet_floor": 0.5,
        "num_calls": steps * (2 if is_heun else 1),
        "reference": {"num": 1000},
    }
    with open(options["--out"], "w") as file:
        json.dump(report, file)
    return code


def lines_of(chart):
    return [path for path in ElementTree.fromstring(chart).iter("path") if path.get("class") is None]


def test_every_combination_is_one_evaluation_and_one_row(tool, tmp_path, capsys):
    axes = ["--vary", "sampling.solver=heun,ddim", "--vary", "sampling.guidance=1,1.5"]
    argv = [SOURCE, *axes, "--output", str(tmp_path / "out"), "--num", "90"]
    assert tool.main(argv) == 0
    assert [call[:4] for call in tool.calls] == [["evaluate", SOURCE, "--num", "90"]] * 4
    given = [dict(zip(call[4::2], call[5::2], strict=True)) for call in tool.calls]
    assert [(one["--sampling.solver"], one["--sampling.guidance"]) for one in given] == [
        ("heun", "1"), ("heun", "1.5"), ("ddim", "1"), ("ddim", "1.5"),
    ]  # fmt: skip
    table = (tmp_path / "out" / "table.md").read_text()
    words = "Frechet distance (mnist), ± its standard error: of 90 samples, by mnist features, 1,000 held-out images.\n"
    assert table.startswith(words)
    assert "| heun | 1 | 10 | 2.25 ± 0.12 | 0.5 |" in table
    assert "| ddim | 1.5 | 5 | 1.00 ± 0.12 | 0.5 |" in table
    assert table in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "sweep.png") as picture:
        assert picture.height < 2 * picture.width  # one chart

    (tmp_path / "out" / "reports" / "solver=ddim_guidance=1.json").unlink()
    assert tool.main(argv) == 0
    assert len(tool.calls) == 5  # what is there is not measured again
    with pytest.raises(ConfigError, match="expected no reports of other sources or options"):
        tool.main([*argv, "--seed", "1"])


def test_curves_run_along_guidance_and_along_network_calls(tool, tmp_path):
    axes = {"sampling.solver": ["heun", "ddim"], "sampling.guidance": [1.5, 1], "sampling.steps": [10, 5]}
    settings = list(tool.combinations([SOURCE], axes, tmp_path))
    for setting in settings:
        write_report(["evaluate", SOURCE, *setting.options, "--out", str(setting.path)])
    found = [(setting, tool.read_figures(setting.path)) for setting in settings]
    by_calls = tool.curves([(setting, figures.network_calls, figures) for setting, figures in found], "sampling.steps")
    assert list(by_calls) == ["heun, guidance 1.5", "heun, guidance 1", "ddim, guidance 1.5", "ddim, guidance 1"]
    assert [(x, figure.value) for x, figure in by_calls["heun, guidance 1.5"]] == [(10, 2), (20, 1)]
    charts = list(tool.draw(found))
    assert [len(lines_of(chart)) for chart in charts] == [4, 4]
    assert "network calls" in charts[1]


def test_several_sources_are_one_more_axis(tool, tmp_path):
    sources = [SOURCE, "dit_ti_2.mnist_gaussian"]
    assert tool.main([*sources, "--vary", "sampling.guidance=1,2", "--output", str(tmp_path)]) == 0
    assert [call[1] for call in tool.calls] == [sources[0]] * 2 + [sources[1]] * 2
    assert "| dit_ti_2.mnist_gaussian | 2 | 10 |" in (tmp_path / "table.md").read_text()


def test_a_failure_ends_the_sweep_with_its_code(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "dit", lambda argv: 75)
    assert tool.main([SOURCE, "--vary", "sampling.steps=2,3", "--output", str(tmp_path)]) == 75


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("sampling.guidance", "--vary: expected FIELD=VALUE,VALUE,... of different values, found 'sampling.guidance'"),
        ("sampling.guidance=1,1.5,1", "of different values, found 'sampling.guidance=1,1.5,1'"),
        ("sampling.guidence=1,2", "guidence: unknown key. Did you mean 'guidance'"),
        ("sampling.steps=5,0", "steps: expected .* found 0"),
    ],
)
def test_what_can_not_be_varied_is_told_before_the_work(tool, tmp_path, axis, message):
    with pytest.raises(ConfigError, match=message):
        tool.main([SOURCE, "--vary", axis, "--output", str(tmp_path / "out")])
    assert not tool.calls
    assert not (tmp_path / "out").exists()


def test_settings_start_from_the_same_noise(tool, tmp_path, monkeypatch):
    """Guidance 1 in an interval is no guidance: with another start the samples would be others."""
    monkeypatch.setattr(tool, "dit", tool.evaluate)
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))
    axes = ["--vary", "sampling.guidance=1,1.5", "--vary", "sampling.guidance_interval=null,[0.1,0.1001]"]
    argv = [SOURCE, *axes, "--output", str(tmp_path), "--num", "20", "--steps", "2"]
    assert tool.main(argv) == 0
    reports = [json.loads(path.read_text()) for path in (tmp_path / "reports").iterdir()]
    assert len(reports) == 4
    assert len({report["samples_sha256"] for report in reports}) == 2  # of both without guidance, and the interval's
    assert {report["seed"] for report in reports} == {0}

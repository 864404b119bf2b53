"""The report page: everything from metrics.jsonl, one run or several."""

import re
from html.parser import HTMLParser

import pytest

from dit.errors import ConfigError
from dit.training.monitor.report import load_runs, report_page
from tests.test_charts import assert_no_overlap
from tests.training.test_loop import train

FULL = {
    "train.validate_every": 2,
    "train.preview_every": 3,
    "train.max_steps": 6,
    "ema.further_decays": [0.5],
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    train(output, **FULL)
    return output


class Collector(HTMLParser):
    """Notes the tags, their balance, and titles of charts."""

    def __init__(self):
        super().__init__()
        self.open, self.charts, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "svg":
            self.charts.append(attributes["aria-label"])
        if tag == "img":
            self.images.append(attributes)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def collect(page):
    collector = Collector()
    collector.feed(page)
    assert collector.open == []
    return collector


def test_page_shows_what_the_run_measured(run_folder):
    page = report_page(load_runs([run_folder]))
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # it stands alone
    assert "loss per image (logarithmic)" in page
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert len(re.findall(r'class="label">([^<]+)<', chart)) == 2, chart[:200]
    found = collect(page)
    assert found.charts == [
        "Loss (dashed: validation)",
        "Loss over diffusion time, newest row (dashed: validation)",
        "Loss by diffusion time",
        "Validation loss of each weight average",
        "Gradient norm (dashed: largest since the row before)",
        "Throughput",
        "Learning rate",
        "Spikes of the loss so far",
    ]
    assert [image["alt"] for image in found.images] == ["samples at step 3", "samples at step 6"]


def test_two_runs_stand_beside_each_other(run_folder, tmp_path):
    train(tmp_path / "second", **{"train.max_steps": 2, "optim.lr": 1e-3})
    page = report_page(load_runs([run_folder, tmp_path / "second"]))
    found = collect(page)
    assert found.charts[2:5] == [
        "Loss by diffusion time: first",
        "Loss by diffusion time: second",
        "Validation loss of each weight average: first",  # the second has none
    ]
    assert "<h1>first and second</h1>" in page
    assert page.count("<tr>") == 3


def test_runs_of_the_same_name_are_told_apart(run_folder, tmp_path):
    other = tmp_path / run_folder.name
    other.mkdir()
    (other / "metrics.jsonl").write_bytes((run_folder / "metrics.jsonl").read_bytes())
    assert [run.name for run in load_runs([run_folder, other])] == [str(run_folder), str(other)]


def test_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: expected at least one row"):
        load_runs([tmp_path])


def test_long_names_do_not_push_each_other_out_of_the_charts(run_folder, tmp_path):
    folders = [tmp_path / f"{k}-a-run-with-quite-a-long-name" for k in range(6)]
    for folder in folders:
        folder.mkdir()
        (folder / "metrics.jsonl").write_bytes((run_folder / "metrics.jsonl").read_bytes())
    page = report_page(load_runs(folders))
    assert all(f'<td style="color:{run.colour}">{run.name}</td>' in page for run in load_runs(folders))
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert_no_overlap(chart)
    for k in range(6):
        assert page.count(f'class="name">{k}-a-run-\u2026ite-a-long-name<') == 6  # the charts that all share

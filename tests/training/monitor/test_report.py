"""The report page: what was logged and measured of one run or several."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from dit.errors import ConfigError
from dit.files import write_json
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


def test_figures_of_samples_have_charts_where_there_are_some(run_folder, tmp_path):
    assert "of the average" not in str(
        [c for c in collect(report_page(load_runs([run_folder]))).charts if "samples" in c]
    )
    evaluated = tmp_path / "evaluated"
    evaluated.mkdir()
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[-1]) | {"eval_frechet_distance": 4.125, "eval_accuracy": 0.5}
    (evaluated / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(row), ""]))
    page = report_page(load_runs([evaluated, run_folder]))
    charts = collect(page).charts
    assert "Frechet distance of the average's samples" in charts
    assert "Class accuracy of the average's samples" in charts
    assert "4.125" in page


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
    assert [image["alt"] for image in found.images] == [f"samples at step {step}" for step in (6, 3, 6)]
    assert "<li>Finished: step 6 of 6" in page


def test_figures_are_never_alone(run_folder, tmp_path):
    assert "Quality of samples" not in report_page(load_runs([run_folder]))
    first, other = tmp_path / "first", tmp_path / "<other>"
    for folder, error in ((first, 0.4717), (other, None)):
        (folder / "export").mkdir(parents=True)
        shutil.copy(run_folder / "metrics.jsonl", folder)
        report = {"num": 1000, "features": "mnist", "frechet_distance": 4.9246, "frechet_standard_error": error}
        write_json(folder / "export" / "eval.json", report)
    fid = {"value": 2.2713, "standard_error": 0.0137, "floor": 1.1}
    write_json(other / "eval.adm.json", {"protocol": "adm", "num": 50000, "figures": {"fid": fid}})
    page = report_page(load_runs([first, other]))
    collect(page)
    rows = page.split("Quality of samples")[1].split("</tr>")[1:4]
    beside, what = ["-", "1,000", "mnist features, held-out images"], "Frechet distance (mnist)"
    assert [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows] == [
        ["first", what, "4.92 ± 0.47", *beside],
        ["&lt;other&gt;", what, "4.925 ± unknown", *beside],
        ["&lt;other&gt;", "FID", "2.271 ± 0.014", "1.1", "50,000", "protocol adm"],
    ]


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

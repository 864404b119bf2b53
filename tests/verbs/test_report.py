from tests.command import fails, runs


def test_a_page_is_written(trained, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert runs(capsys, "report", trained, "--out", out) == [str(out)]
    assert out.read_text().startswith("<!doctype html>")


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert "metrics.jsonl: expected at least one row" in fails(capsys, "report", tmp_path, "--out", tmp_path / "x")

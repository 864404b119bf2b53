from tests.command import fails, runs


def test_a_page_is_written(trained, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert runs(capsys, "report", trained, "--out", out) == [str(out)]
    assert out.read_text().startswith("<!doctype html>")


def test_a_place_that_can_not_be_written_is_named(trained, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = "--out: expected a place that can be written, found "
    assert fails(capsys, "report", trained, "--out", tmp_path / "file" / "x.html").startswith(words)

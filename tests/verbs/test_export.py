from tests.command import fails, runs


def test_a_run_is_exported(trained, tmp_path, capsys):
    out = tmp_path / "model"
    assert runs(capsys, "export", trained, out) == [str(out)]
    assert (out / "model.safetensors").read_bytes() == (trained / "export" / "model.safetensors").read_bytes()
    assert (out / "config.json").is_file()


def test_a_folder_with_files_is_refused(trained, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "expected a new or empty folder" in fails(capsys, "export", trained, tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert "expected a run folder" in fails(capsys, "export", tmp_path, tmp_path / "out", code=1)

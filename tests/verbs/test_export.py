from tests.command import runs


def test_a_run_is_exported(trained, tmp_path, capsys):
    out = tmp_path / "model"
    assert runs(capsys, "export", trained, out) == [str(out)]
    assert (out / "model.safetensors").read_bytes() == (trained / "export" / "model.safetensors").read_bytes()
    assert (out / "config.json").is_file()

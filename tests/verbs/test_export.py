import torch
from safetensors.torch import load_file

from dit.zoo.create import create_model
from dit.zoo.load import load_model
from dit.zoo.pipeline import load_pipeline
from tests.command import runs


def test_a_run_is_exported(trained, tmp_path, capsys):
    out = tmp_path / "model"
    assert runs(capsys, "export", trained, out) == [str(out)]
    assert (out / "model.safetensors").read_bytes() == (trained / "export" / "model.safetensors").read_bytes()
    assert (out / "config.json").is_file()


def test_weights_are_written_in_half_the_bytes_and_compute_in_float32(trained, tmp_path, capsys):
    out = tmp_path / "model"
    runs(capsys, "export", trained, out, "--half")
    whole, halves = (load_file(folder / "model.safetensors") for folder in (trained / "export", out))
    assert halves.keys() == whole.keys()
    assert all(torch.equal(halves[name], tensor.half()) for name, tensor in whole.items())
    for network in (load_model(out), load_pipeline(out, device="cpu").model):
        for name, tensor in network.state_dict().items():  # torch.equal does not look at types
            assert tensor.dtype == torch.float32
            assert torch.equal(halves[name].float(), tensor)
    assert load_model(out, dtype=torch.float16).pos_embed.dtype == torch.float16
    assert (
        create_model("dit_ti_2", pretrained=out, hidden_size=48, depth=2, num_heads=3).pos_embed.dtype == torch.float32
    )

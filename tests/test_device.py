import pytest
import torch

from dit.device import choose_device


@pytest.mark.parametrize(
    ("local_rank", "num_devices", "expected"),
    [(None, 2, "cuda:0"), ("1", 2, "cuda:1"), ("3", 1, "cuda:0"), ("1", 0, "cpu")],
)
def test_processes_of_a_launcher_share_the_accelerators(monkeypatch, local_rank, num_devices, expected):
    kind = torch.device("cuda") if num_devices else None
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: kind)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: num_devices)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert choose_device() == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")

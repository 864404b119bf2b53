"""What a GPU has to keep: `pytest -m gpu`. Everything that is not about one runs on the CPU too."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from dit.errors import Preempted
from dit.layers.precision import same_bits
from dit.models import create_model
from dit.models.network import compile_blocks
from dit.rng import StepDraws
from dit.training.activations import recompute_blocks
from dit.training.memory import measure_passes
from tests.models.test_families import SMALL, call, inputs
from tests.training.on_device import SmallRun
from tests.training.test_activations import network_of
from tests.training.test_loop import assert_same_end, losses, torchrun, train

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu", GPU]
GAUSSIAN = {"process.name": "gaussian", "process.learn_sigma": True, "model.learn_sigma": True}
MEANFLOW = {"process.name": "average_velocity", "process.loss": {"name": "meanflow"}, "model.name": "meanflow_ti_2"}
WAITING = [{}, GAUSSIAN, {"process.name": "edm"}, MEANFLOW | {"model.learn_sigma": None}]
BF16 = partial(torch.autocast, "cuda", torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("changes", WAITING, ids=["flow", "gaussian", "edm", "meanflow"])
def test_a_step_waits_for_nothing(changes):
    run = SmallRun("cuda", autocast=BF16, **changes)
    for number in range(2):  # the first step allocates, the second reads the first one's figures
        run.step(number)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(2, 6):
            run.step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [metrics.is_bad for metrics, _ in run.stepper.arrived(all_of_them=True)] == [False] * 6


@pytest.mark.parametrize("device", DEVICES)
def test_the_fused_optimizer_holds_back(device, monkeypatch):
    monkeypatch.setenv("DIT_FAILPOINT", "gradient-1-rank-0:nan")
    run = SmallRun(device, num_late=1)
    run.step(0)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    moments = [state["exp_avg"].clone() for state in run.stepper.optimizer.state.values()]
    run.step(1)
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    for state, moment in zip(run.stepper.optimizer.state.values(), moments, strict=True):
        assert torch.equal(state["exp_avg"], moment)


@pytest.mark.parametrize("device", DEVICES)
def test_late_and_prompt_figures_give_the_same_losses(device):
    assert SmallRun(device, num_late=0).losses(4) == SmallRun(device, num_late=1).losses(4)


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_are_the_same_to_the_last_bit(device):
    with same_bits(True):
        one, other = SmallRun(device), SmallRun(device)
        assert one.losses(4) == other.losses(4)
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", [{}, GAUSSIAN], ids=["flow", "gaussian"])
def test_a_batch_and_its_loss_are_those_of_the_cpu(device, changes, monkeypatch):
    """With the noise of the CPU, which a GPU draws in its own way; float32 products are of float32, not TF32."""
    normal = StepDraws.normal
    monkeypatch.setattr(StepDraws, "normal", lambda self, purpose, shape, place: normal(self, purpose, shape).to(place))
    found, expected = SmallRun(device, **changes).losses(3), SmallRun("cpu", **changes).losses(3)
    # Sums of float32 in another order, through three updates.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SMALL)
def test_a_family_on_a_gpu_is_that_of_the_cpu(name):
    network = network_of(name).eval()
    x, t, y = inputs(network)
    expected = call(network, x, t, y)
    found = call(network.cuda(), x.cuda(), t.cuda(), y.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.gpu
@pytest.mark.parametrize("num_tokens", [256, 1024])
@pytest.mark.parametrize("head_size", [72, 64])
def test_attention_is_fused_and_near_float64(head_size, num_tokens):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, num_tokens, head_size, generator=draw, dtype=torch.float64) for _ in range(3))
    expected = scaled_dot_product_attention(q, k, v)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]):  # torch refuses where neither serves
        found = scaled_dot_product_attention(*(part.to("cuda", torch.bfloat16) for part in (q, k, v)))
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
def test_compiled_blocks_train_like_plain_ones(kind):
    plain, compiled = SmallRun("cuda", autocast=BF16), SmallRun("cuda", autocast=BF16)
    compile_blocks(recompute_blocks(compiled.model, kind))
    # bfloat16 has 8 bits, and fused operations round less often.
    torch.testing.assert_close(compiled.losses(20), plain.losses(20), rtol=2e-3, atol=0)


@pytest.mark.gpu
def test_bfloat16_trains_like_float32():
    torch.testing.assert_close(
        SmallRun("cuda", autocast=BF16).losses(20), SmallRun("cuda").losses(20), rtol=1e-2, atol=0
    )


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
def test_a_pass_takes_the_memory_that_was_told(kind, autocast):
    network = recompute_blocks(create_model("dit_s_2").cuda().train(), kind)
    measure_passes(network, 8, autocast)  # the libraries' own memory
    network.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _, told = measure_passes(network, 8, autocast)
    taken = torch.cuda.max_memory_allocated() - before
    print(f"{kind}, {autocast}: told {told / 2**20:.0f} MiB, taken {taken / 2**20:.0f} MiB")
    assert 0.85 < told / taken < 1.15


@pytest.mark.gpu
def test_a_resumed_run_is_exact(tmp_path):
    pytest.importorskip("timm")
    exact = {"train.deterministic": True, "train.mixed_precision": "bf16"}
    train(tmp_path / "whole", **exact)
    train(tmp_path / "cut", **exact, **{"train.max_steps": 3})
    train(tmp_path / "cut", resume=True, **exact)
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_two_gpus_train_like_one(compiled, tmp_path):
    pytest.importorskip("timm")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    options = {"train.mixed_precision": "fp32", "train.compile": compiled}
    done = torchrun(tmp_path / "two", env={"ACCELERATE_USE_CPU": "false"}, timeout=600, **options)
    assert done.returncode == 0, done.stderr
    train(tmp_path / "one", **options)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", ["off", "on"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_gpus_that_hold_a_part_each_train_like_two_that_hold_all(precision, compiled, tmp_path, monkeypatch):
    """And a run goes on in one: fsdp2 x 2, none x 1, fsdp2 x 2."""
    pytest.importorskip("timm")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    options = {"train.mixed_precision": precision, "train.compile": compiled, "train.deterministic": True}
    gpus, parts = {"ACCELERATE_USE_CPU": "false"}, {"train.shard": "fsdp2"}
    for name, shard in (("whole", {}), ("parts", parts)):
        done = torchrun(tmp_path / name, env=gpus, timeout=600, **options, **shard)
        assert done.returncode == 0, done.stderr
    # Compiled blocks cast their weights in the graph, or take them as they were gathered, and fuse differently.
    tolerance = 1e-5 if precision == "fp32" else 2e-3 if compiled == "on" else 2e-4
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=tolerance)
    env = gpus | {"DIT_FAILPOINT": "step-1-rank-0-micro-0:signal=TERM"}
    assert "stopped by a signal after step 2" in torchrun(tmp_path / "cut", env=env, **options, **parts).stderr
    monkeypatch.setenv("DIT_FAILPOINT", "step-3-rank-0-micro-0:signal=TERM")
    with pytest.raises(Preempted):
        train(tmp_path / "cut", resume=True, **options)
    monkeypatch.delenv("DIT_FAILPOINT")
    done = torchrun(tmp_path / "cut", "--resume", env=gpus, timeout=600, **options, **parts)
    assert done.returncode == 0, done.stderr
    # One process sums a gradient of bfloat16 products in another order than two do.
    again = 1e-5 if precision == "fp32" else 1e-2
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "parts"), rel=again)


@pytest.mark.gpu
def test_throughput_is_printed():
    network, x = create_model("dit_s_2").cuda().train(), torch.randn(32, 4, 32, 32, device="cuda")
    t, y = torch.rand(32, device="cuda"), torch.zeros(32, dtype=torch.int64, device="cuda")
    compile_blocks(network)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for number in range(15):
        if number == 5:
            begin.record()
        with BF16():
            loss = network(x, t, y).float().square().mean()
        loss.backward()
        network.zero_grad()
    end.record()
    torch.cuda.synchronize()
    seconds, peak = begin.elapsed_time(end) / 1000 / 10, torch.cuda.max_memory_allocated() / 2**30
    print(f"{torch.cuda.get_device_name()}: dit_s_2, 32 images, {32 / seconds:.0f} images/s, {peak:.2f} GiB")

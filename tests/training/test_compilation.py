"""When a run compiles its blocks, and that a compiled block is the block."""

from datetime import timedelta

import pytest
import torch
import torch._dynamo
import torch.distributed as dist
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from dit.layers.compiler import expect_no_gpu
from dit.models import create_model
from dit.models.counts import count
from dit.models.families import arguments_of
from dit.models.network import compile_blocks
from dit.training import compilation
from dit.training.compilation import compiles, keep_blocks_whole
from dit.training.config import TrainConfig
from dit.training.ranks.sharding import create_mesh, shard

CPU = torch.device("cpu")
SMALL = count("dit_ti_2", arguments_of("dit_ti_2", input_size=8, num_classes=10)).macs
LARGE = count("dit_s_2", arguments_of("dit_s_2")).macs


@pytest.fixture(autouse=True)
def _compiler(monkeypatch):
    monkeypatch.setattr(compilation, "has_compiler", lambda device: True)


def test_long_runs_compile_and_short_ones_do_not():
    assert not compiles(TrainConfig(max_steps=2500, batch_size=64), SMALL, CPU, "fp32", 1)
    assert compiles(TrainConfig(max_steps=2500, batch_size=64), LARGE, CPU, "bf16", 1)
    assert not compiles(TrainConfig(max_steps=50, batch_size=64), LARGE, CPU, "bf16", 1)


def test_the_recipe_decides_where_it_says_so():
    assert compiles(TrainConfig(max_steps=1, compile="on"), SMALL, CPU, "fp32", 1)
    assert not compiles(TrainConfig(compile="off"), LARGE, CPU, "bf16", 1)


def test_without_a_compiler_auto_does_not(monkeypatch):
    monkeypatch.setattr(compilation, "has_compiler", lambda device: False)
    assert not compiles(TrainConfig(), LARGE, CPU, "bf16", 1)


@pytest.mark.filterwarnings("ignore")  # of older torch, about its own TorchScript
def test_compiling_keeps_the_names_of_parameters():
    model = create_model("dit_ti_2", depth=2, hidden_size=48, num_heads=4, input_size=8)
    names = list(model.state_dict())
    assert list(compile_blocks(model).state_dict()) == names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
@pytest.mark.parametrize("bf16", [False, True])
def test_a_compiled_network_is_no_less_exact(bf16):
    """Output and gradients of the compiled network against float64, beside those of the plain network."""
    torch.manual_seed(0)
    model = create_model("dit_ti_2", depth=2, hidden_size=48, num_heads=4, input_size=8, num_classes=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.pos_embed.requires_grad_(False)
    x, t, y = torch.randn(4, 4, 8, 8), torch.tensor([0.0, 100.0, 500.0, 999.0]), torch.tensor([0, 1, 2, 3])

    def results(network, dtype=torch.float32):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 and dtype == torch.float32):
            output = network(x.to(dtype), t, y)
        output.to(dtype).square().sum().backward()
        gradients = [p.grad.double().flatten() for p in network.parameters() if p.grad is not None]
        return torch.cat([output.detach().double().flatten(), torch.cat(gradients) / 10])

    state = model.state_dict()
    exact = create_model("dit_ti_2", **model.arguments.model_dump()).double()
    exact.load_state_dict(state)
    reference = results(exact, torch.float64)
    plain = (results(model) - reference).norm() / reference.norm()
    compiled = (results(compile_blocks(model)) - reference).norm() / reference.norm()
    assert compiled <= 1.1 * plain + 1e-6
    assert compiled < (0.02 if bf16 else 1e-5)


@pytest.fixture
def _group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
@pytest.mark.usefixtures("_group")
@torch._dynamo.config.patch(optimize_ddp=True)  # as torch has it, and again afterwards
def test_a_block_is_one_graph_where_processes_exchange_its_gradients():
    keep_blocks_whole()
    torch._dynamo.reset()
    network = create_model("dit_ti_2", depth=3, hidden_size=48, num_heads=4, input_size=8, num_classes=3)
    graphs = CompileCounterWithBackend("aot_eager")
    for block in network.block_list():
        block.compile(backend=graphs)
    exchanged = DistributedDataParallel(network, bucket_cap_mb=0.01, gradient_as_bucket_view=True, static_graph=True)
    for _ in range(2):
        exchanged(torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 1])).square().mean().backward()
    assert graphs.frame_count == 1


@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
@pytest.mark.usefixtures("_group")
def test_a_block_is_one_graph_where_its_weights_are_dealt():
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = create_model("dit_ti_2", depth=3, hidden_size=48, num_heads=4, input_size=8, num_classes=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 1])
    plain = gradients_of(network, *batch)
    graphs = CompileCounterWithBackend("aot_eager")
    for block in network.block_list():
        block.compile(backend=graphs)
    dealt = shard(network, create_mesh("fsdp2", CPU, timedelta(seconds=60)))
    for _ in range(2):
        dealt.zero_grad()
        found = gradients_of(dealt, *batch)
    assert graphs.frame_count == 1
    for name, gradient in plain.items():  # other fused operations round by an ulp or two of float32
        torch.testing.assert_close(found[name].full_tensor(), gradient, rtol=1e-4, atol=1e-5, msg=name)


def gradients_of(network, x, t, y):
    network(x, t, y).square().mean().backward()
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def test_a_toolkit_without_a_gpu_is_not_worth_a_warning(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expect_no_gpu()
    from torch.utils import cpp_extension  # where it was not imported yet, it looks and warns right here

    assert cpp_extension._find_cuda_home() == str(tmp_path)
    cpp_extension.logger.addHandler(caplog.handler)  # torch 2.10 keeps its loggers' messages to itself
    cpp_extension.logger.warning("something else")
    cpp_extension.logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"something else"}

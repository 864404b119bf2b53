"""Calls that are recorded once and replayed: what is recorded, that the results are their own, and that none waits."""

import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.models import create_model
from dit.models.adaln import AdaLNTransformer
from dit.models.graphs import MAX_GRAPHS, Graphs
from dit.models.network import CanPrepare, compile_blocks
from dit.models.prepared import predict
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from tests.models.test_families import SMALL
from tests.training.fake_cuda import CUDA, watched
from tests.training.test_activations import network_of

GUIDED = SamplingConfig(solver="dpmpp_2m", steps=4, guidance=2.0, guidance_interval=[0.2, 0.8])


@pytest.fixture
def recorded(monkeypatch):
    """Record as a GPU does: a function reads its arguments from one place, and writes its result to one."""
    calls = []

    def record(function, own):
        calls.append(own)
        result = function(*own).clone()

        def replay(*arguments):
            for place, argument in zip(own, arguments, strict=True):
                place.copy_(argument)
            return result.copy_(function(*own))

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return calls


@pytest.mark.parametrize("name", SMALL)
def test_samples_with_graphs_are_those_without(name, recorded):
    network = network_of(name).eval()
    if not isinstance(network, CanPrepare) or network.condition_names:
        pytest.skip("its calls are not prepared, or are told more than a time")
    arguments = network.arguments
    y, shape = torch.tensor([0, 1, 1]), (arguments.in_channels, *arguments.input_size)
    process = create_process(FlowConfig(learn_sigma=getattr(arguments, "learn_sigma", False)))
    expected = sample(network, process, y, shape, sampling=GUIDED).latents
    network.graphs = Graphs()
    for _ in range(2):
        assert torch.equal(sample(network, process, y, shape, sampling=GUIDED).latents, expected)
    assert len(recorded) == 2  # with guidance and without, for both samplings
    other = sample(network, process, y + 1, shape, sampling=GUIDED, seed=1).latents
    network.graphs = None
    assert torch.equal(other, sample(network, process, y + 1, shape, sampling=GUIDED, seed=1).latents)


def test_a_result_outlives_the_next_call(recorded):
    graphs = Graphs()
    first = graphs(lambda x: x + 1, torch.zeros(2))
    graphs(lambda x: x + 1, torch.ones(2))
    assert first.tolist() == [1, 1]


def test_shapes_beyond_the_limit_are_computed_without(recorded):
    graphs = Graphs()
    for size in range(1, MAX_GRAPHS + 3):
        assert graphs(lambda x: 2 * x, torch.ones(size)).tolist() == [2] * size
    assert len(recorded) == MAX_GRAPHS


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
@pytest.mark.parametrize("name", SMALL)
def test_what_is_recorded_waits_for_nothing(name, monkeypatch):
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, **options: tensor)  # asks a fake for a number
    with watched() as waits, torch.no_grad():
        with torch.device(CUDA):
            network = create_model(name)
        if not isinstance(network, AdaLNTransformer):
            pytest.skip("it has no call that is recorded, or one that is part of its own `prepare`")
        arguments = network.arguments
        x = torch.empty(2, arguments.in_channels, *arguments.input_size, device=CUDA)
        y = torch.empty(4, dtype=torch.int64, device=CUDA)
        layers = [layer.adaLN_modulation[-1] for layer in (*network.block_list(), network.final_layer)]
        values = [torch.empty(4, layer.out_features, device=CUDA) for layer in layers]
        predict(network, x, y, *values)  # what is kept for later calls is made before a call is recorded
        waits.found.clear()
        predict(network, x, y, *values)
        assert waits.found == []


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["dit_ti_2", "ddt_ti_2"])
def test_a_replayed_call_is_the_same_to_the_last_bit(name, compiled):
    network = network_of(name).cuda().eval()
    if compiled:
        compile_blocks(network, dynamic=False)
    process, y = create_process(FlowConfig(learn_sigma=getattr(network.arguments, "learn_sigma", False))), [0, 1, 1, 2]
    shape = (network.arguments.in_channels, *network.arguments.input_size)

    def latents(graphs, seed):
        network.graphs = graphs
        return sample(network, process, torch.tensor(y, device="cuda"), shape, sampling=GUIDED, seed=seed).latents

    graphs = Graphs()
    for seed in range(2):  # the second sampling replays what the first one recorded
        assert torch.equal(latents(graphs, seed), latents(None, seed))
    assert len(graphs.recorded) == 2

"""Parts that share a device: which of them is there, and the same images as with all of them there."""

from types import SimpleNamespace

import pytest
import torch

from dit.errors import ConfigError
from dit.models.graphs import Graphs
from dit.sampling.config import SamplingConfig
from dit.zoo.pictures.pictures import interpolate, invert_image, trace, trajectory_strip
from dit.zoo.pipeline import load_pipeline
from dit.zoo.turns import Turns
from tests.zoo.test_pipeline import make

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Part:
    def __init__(self, name, moves):
        self.name, self.moves = name, moves

    def to(self, device):
        self.moves.append((self.name, device.type))


def test_one_part_leaves_before_the_other_comes():
    moves = []
    turns = Turns(GPU, {"network": [Part("network", moves), Part("guide", moves)], "codec": [Part("codec", moves)]})
    turns.bring("network")
    turns.bring("network")
    assert moves == [("network", "cuda"), ("guide", "cuda")]
    turns.bring("codec")
    assert moves[2:] == [("network", "cpu"), ("guide", "cpu"), ("codec", "cuda")]


class Watched(Turns):
    """Notes what was brought."""

    def __init__(self, turns):
        super().__init__(turns.device, turns.parts)
        self.brought = []

    def bring(self, name):
        self.brought.append(name)
        super().bring(name)


def watched(pipe):
    pipe.offload(CPU)
    assert pipe.turns is not None
    pipe.turns = Watched(pipe.turns)
    return pipe.turns


@pytest.fixture
def pipe(mnist_codec):
    return make(mnist_codec)


def test_images_are_those_of_a_pipeline_whose_weights_stay(pipe):
    expected = pipe.sample_images([1, 2, 3], seed=4, batch_size=2)
    turns = watched(pipe)
    assert torch.equal(pipe.sample_images([1, 2, 3], seed=4, batch_size=2), expected)
    assert turns.brought == ["network", "network", "codec"]
    assert pipe.device == CPU


@pytest.mark.parametrize("kind", ["trajectory", "inversion", "interpolation"])
def test_other_pictures_bring_what_they_need(pipe, kind):
    sampling, labels = SamplingConfig(solver="euler", steps=2), torch.tensor([1, 2])

    def draw():
        if kind == "trajectory":
            return trajectory_strip(pipe, trace(pipe, labels, sampling)).tobytes()
        if kind == "interpolation":
            return interpolate(pipe, labels, sampling, between="classes").tobytes()
        return invert_image(pipe, torch.zeros(1, 1, 32, 32, dtype=torch.uint8), 1, sampling).picture.tobytes()

    expected = draw()
    turns = watched(pipe)
    assert draw() == expected
    first = {"trajectory": "network", "inversion": "codec", "interpolation": "network"}[kind]
    assert turns.brought[0] == first
    assert {"network", "codec"} == set(turns.brought)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"offload": True, "quantize": "int8"}, "offload: expected weights that may move, found quantize int8"),
        ({"compiled": "graphs"}, "compiled: graphs: expected a CUDA GPU, found cpu"),
        ({"decoder_tile": 2}, "decoder_tile: expected at least 8, found 2"),
    ],
)
def test_what_does_not_go_together_is_refused(exported_once, options, words):
    with pytest.raises(ConfigError, match=words):
        load_pipeline(exported_once, device="cpu", **options)


def test_a_model_is_loaded_onto_the_host(exported_once):
    pipe = load_pipeline(exported_once, device="cpu", offload=True)
    assert pipe.turns.there is None
    assert torch.equal(
        pipe.sample_images([1], seed=2), load_pipeline(exported_once, device="cpu").sample_images([1], seed=2)
    )


def test_all_networks_move_and_forget_where_their_weights_were(pipe, mnist_codec):
    pipe.weaker, graphs = make(mnist_codec).model, Graphs()
    pipe.model.graphs = graphs
    pipe.codec = SimpleNamespace(to=lambda device: None)
    pipe.to("meta")
    assert pipe.model.graphs is not graphs
    assert next(pipe.weaker.parameters()).device.type == "meta"


def test_compiled_blocks_are_compiled_for_each_shape(pipe, monkeypatch):
    options = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **chosen: options.append(chosen))
    assert pipe.compile("blocks").compilation == "blocks"
    assert options == [{"dynamic": False}] * len(pipe.model.block_list())
    assert pipe.model.graphs is None


@pytest.mark.gpu
def test_a_gpu_holds_one_part_at_a_time(mnist_codec, tmp_path):
    folder = make(mnist_codec).save_pretrained(tmp_path / "model")
    whole, shared = (load_pipeline(folder, device="cuda", offload=offload) for offload in (False, True))
    assert torch.equal(whole.sample_images([1, 2]), shared.sample_images([1, 2]))
    places = {part.device.type for part in (*shared.model.parameters(), *shared.codec.autoencoder.parameters())}
    assert places == {"cpu", "cuda"}
    shared.bring("network")
    assert {parameter.device.type for parameter in shared.codec.autoencoder.parameters()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["blocks", "graphs"])
def test_compiled_pipelines_make_nearly_the_same_images(mnist_codec, kind, tmp_path):
    folder = make(mnist_codec).save_pretrained(tmp_path / "model")
    plain, compiled = (load_pipeline(folder, device="cuda", compiled=how) for how in ("off", kind))
    found, expected = (pipe.sample_latents(list(range(8)), batch_size=4) for pipe in (compiled, plain))
    # bfloat16 has 8 bits, and fused operations round less often.
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-2)

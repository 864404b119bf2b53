"""What step caching may and may not change."""

import pytest
import torch

from dit.diffusion.config import FlowConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.models.cache import StepCache, extrapolate
from dit.sampling.config import SamplingConfig
from dit.sampling.sampler import sample
from tests.goldens import assert_close, load_network
from tests.models.test_families import inputs, random_network

FLOW = create_process(FlowConfig(learn_sigma=True))


def test_the_extrapolation_is_exact_for_a_parabola():
    def parabola(t):
        return torch.tensor([3 * t * t - t + 2, t, 1.0], dtype=torch.float64)

    known = [(t, parabola(t)) for t in (1.0, 0.8, 0.5)]
    torch.testing.assert_close(extrapolate(known, 0.3), parabola(0.3), rtol=0, atol=1e-12)
    assert torch.equal(extrapolate(known[:1], 0.3), known[0][1])


@pytest.mark.parametrize(("kind", "computed"), [("static", [0, 3, 6]), ("taylor", [0, 1, 2, 3, 6])])
def test_the_blocks_run_in_every_nth_call(kind, computed):
    ran = []

    def blocks(call):
        return lambda tokens: ran.append(call) or tokens + 1

    cache = StepCache(kind, 3)
    for call in range(8):
        after = cache("rows", 1 - call / 8, torch.full((1, 2, 3), float(call)), blocks(call))
        assert torch.equal(after, torch.full((1, 2, 3), call + 1.0))  # a constant update is reused exactly
    assert ran == computed


def test_groups_of_rows_have_their_own_history():
    cache = StepCache("static", 2)
    for rows, update in (("a", 1.0), ("b", 5.0)):
        cache(rows, 1.0, torch.zeros(1), lambda tokens, update=update: tokens + update)
    assert cache("a", 0.9, torch.zeros(1), lambda tokens: tokens + 100) == 1.0
    assert cache("b", 0.9, torch.zeros(1), lambda tokens: tokens + 100) == 5.0


def test_a_second_call_at_the_same_time_replaces_the_first():
    cache = StepCache("taylor", 2)
    for t in (1.0, 0.9, 0.9, 0.8):
        cache("rows", t, torch.zeros(1), lambda tokens, t=t: tokens + t)
    assert [t for t, _ in cache.known["rows"]] == [1.0, 0.9]


@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint"])
def test_cached_samples_are_near_the_sample_and_not_it(solver):
    model, _ = load_network("dit_p2_sigma")
    y = torch.tensor([0, 3])

    def draw(cache):
        interval = {} if cache == "off" else {"cache_interval": 3}
        sampling = SamplingConfig(solver=solver, steps=40, guidance=2.0, cache=cache, **interval)
        return sample(model, FLOW, y, (4, 8, 8), sampling=sampling).latents

    exact, static, taylor = (draw(cache) for cache in ("off", "static", "taylor"))
    errors = [(other - exact).norm() / exact.norm() for other in (static, taylor)]
    assert min(errors) > 1e-6
    assert max(errors) < 0.1


@pytest.mark.parametrize(
    ("model", "cache", "expected"),
    [
        (lambda x, t, y: x, "static", "off, for this network or this guidance can't be cached"),
        (load_network("dit_p2_sigma")[0], "encoder", "off, static or taylor with this network, found encoder"),
    ],
)
def test_a_network_that_cannot_be_cached_so_is_refused(model, cache, expected):
    sampling = SamplingConfig(solver="euler", steps=2, cache=cache)
    with pytest.raises(ConfigError, match=rf"^sampling\.cache: expected {expected}$"):
        sample(model, FLOW, torch.tensor([0]), (4, 8, 8), sampling=sampling)


@pytest.mark.parametrize("name", ["ddt_ti_2", "ditdh_ti_2"])
def test_the_state_of_an_encoder_serves_several_steps(name):
    network = random_network(name)
    x, _, y = inputs(network)
    labels, times = torch.cat([y, torch.full_like(y, network.null_class)]), torch.tensor([0.9, 0.5, 0.1])
    step = network.prepare(times, labels, cache="encoder", cache_interval=2)
    both = [torch.cat([part, part]) for part in (x, x + 1, x - 1)]
    state = network.encode(both[0], times[0].expand(6), labels)
    # 5e-6: products of other sizes may sum in another order, which random modulations multiply.
    assert_close(step(x, 0, slice(3)), network.decode(x, state[:3]), 5e-6)
    assert_close(step(x + 1, 1), network.decode(both[1], state), 5e-6)
    assert_close(step(x - 1, 2), network(both[2], times[2].expand(6), labels), 5e-6)

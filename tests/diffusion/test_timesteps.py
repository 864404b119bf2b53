import pytest
import torch

from dit.diffusion.config import AdaptiveTime, FlowConfig, GaussianConfig, LogitNormalTime, UniformTime
from dit.diffusion.create import create_process
from dit.diffusion.timesteps import AdaptiveLaw, create_time_law

BUCKETS = 8


def midpoints(num: int) -> torch.Tensor:
    return (torch.arange(num, dtype=torch.float64) + 0.5) / num


def loss_at(t):
    """A loss that falls by a factor of 20 over the times."""
    return 1 / (0.05 + t)


@pytest.fixture
def law():
    """A law that has seen each bucket's mean loss."""
    law = AdaptiveLaw(BUCKETS, decay=0.5, uniform_share=0.2)
    law.update(midpoints(BUCKETS), loss_at(midpoints(BUCKETS)))
    return law


def test_until_every_bucket_has_seen_a_loss_times_are_uniform():
    law = AdaptiveLaw(BUCKETS, decay=0.5, uniform_share=0.2)
    u = midpoints(100)
    for bucket in range(BUCKETS):
        times = law.draw(u)
        torch.testing.assert_close(times.t, u, rtol=0, atol=1e-12)
        torch.testing.assert_close(times.weight, torch.ones_like(u))
        law.update(midpoints(BUCKETS)[bucket : bucket + 1], torch.tensor([1.0 + bucket]))
    assert law.draw(u).weight.std() > 0.1


def test_probabilities_are_those_of_the_root_mean_square_and_a_uniform_share(law):
    expected = 0.2 / BUCKETS + 0.8 * loss_at(midpoints(BUCKETS)) / loss_at(midpoints(BUCKETS)).sum()
    torch.testing.assert_close(law.probabilities(), expected, rtol=1e-12, atol=0)
    found = torch.histc(law.draw(midpoints(100_000)).t, BUCKETS, 0, 1) / 100_000
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("function", [torch.ones_like, loss_at, lambda t: torch.sin(9 * t)], ids=["1", "loss", "sin"])
def test_weighted_mean_is_the_mean_over_uniform_times(law, function):
    """Exactly, by the midpoint rule over u, and for random draws within 4 standard errors."""
    exact = function(midpoints(1_000_000)).mean().item()
    times = law.draw(midpoints(1_000_000))
    assert (times.weight * function(times.t)).mean().item() == pytest.approx(exact, abs=1e-5)
    times = law.draw(torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    draws = times.weight * function(times.t)
    assert abs(draws.mean().item() - exact) < 4 * draws.std().item() / 20_000**0.5 + 1e-12


def test_weighting_lowers_the_variance_of_the_mean_loss(law):
    u = midpoints(10_000)
    times = law.draw(u)
    assert (times.weight * loss_at(times.t)).var() < 0.3 * loss_at(u).var()


def test_the_histogram_converges_to_the_root_of_the_second_moment():
    """Losses are f(t) z^2 with normal z, whose root mean square is sqrt(3) f(t)."""
    law = AdaptiveLaw(BUCKETS, decay=0.999, uniform_share=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        times = law.draw(torch.rand(4000, dtype=torch.float64, generator=generator))
        bucket = (times.t * BUCKETS).long()
        level = loss_at(midpoints(BUCKETS))[bucket]
        law.update(times.t, level * torch.randn(4000, dtype=torch.float64, generator=generator) ** 2)
    expected = loss_at(midpoints(BUCKETS))
    # An average over about 2,000 losses; the fourth power of a normal has the relative deviation sqrt(96) / 3.
    error = 4 * 0.5 * 3.3 / 2000**0.5
    torch.testing.assert_close(law.second_moments.sqrt(), 3**0.5 * expected, rtol=error, atol=0)
    probabilities = 0.1 / BUCKETS + 0.9 * expected / expected.sum()
    torch.testing.assert_close(law.probabilities(), probabilities, rtol=error, atol=0)


def test_state_round_trip(law):
    """A law that continues from a checkpoint draws and learns exactly as the first would have."""
    other = AdaptiveLaw(BUCKETS, decay=0.5, uniform_share=0.2)
    other.load_state_dict(law.state_dict())
    u, losses = midpoints(50), torch.linspace(1, 9, 50)
    for _ in range(2):
        assert torch.equal(other.draw(u).t, law.draw(u).t)
        assert torch.equal(other.draw(u).weight, law.draw(u).weight)
        t = law.draw(u).t
        for each in (law, other):
            each.update(t, losses)
    assert set(law.state_dict()) == {"second_moments", "counts"}


def test_a_saved_state_does_not_change_with_the_law(law):
    before = law.state_dict()["second_moments"].clone()
    state = law.state_dict()
    law.update(midpoints(50), torch.full((50,), 100.0))
    assert torch.equal(state["second_moments"], before)


@pytest.mark.parametrize(("num_steps", "num_buckets"), [(1000, 100), (1000, 1000), (1000, 250), (40, 8), (96, 32)])
def test_a_discrete_step_is_learned_in_the_bucket_that_it_was_drawn_from(num_steps, num_buckets):
    """The time of step k is (k + 1) / N, the end of the interval of u that leads to it."""
    config = GaussianConfig(num_steps=num_steps, learn_sigma=False, time_law=AdaptiveTime(num_buckets=num_buckets))
    process = create_process(config)
    x = torch.zeros(num_steps, 1, 1, 1)
    losses = process.losses(lambda x, t, y: x, x, x, noise=x, u=midpoints(num_steps))
    assert torch.equal(losses.t, (torch.arange(num_steps, dtype=torch.float64) + 1) / num_steps)
    process.time_law.update(losses.t, losses.unweighted)
    assert (process.time_law.counts == num_steps // num_buckets).all()


@pytest.mark.parametrize("config", [FlowConfig(time_law=AdaptiveTime()), GaussianConfig(time_law=AdaptiveTime())])
def test_importance_weights_are_in_the_loss_and_not_in_what_is_learned(config):
    process = create_process(config.model_copy(update={"learn_sigma": False}))
    process.time_law.update(midpoints(100), loss_at(midpoints(100)))
    x, noise = torch.zeros(64, 1, 2, 2), torch.ones(64, 1, 2, 2)
    losses = process.losses(lambda x, t, y: torch.zeros_like(x), x, x, noise=noise, u=midpoints(64))
    weight = process.time_law.draw(midpoints(64)).weight
    torch.testing.assert_close(losses.unweighted, torch.ones(64))
    torch.testing.assert_close(losses.loss.double(), weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize("law", [UniformTime(shift=3.0), LogitNormalTime(mean=-0.4, scale=1.3)])
def test_other_laws_learn_nothing_and_have_weight_one(law):
    law = create_time_law(law)
    assert law.state_dict() == {}
    times = law.draw(midpoints(10))
    assert torch.equal(times.weight, torch.ones_like(times.weight))
    law.update(times.t, times.t)
    law.load_state_dict({})


@pytest.mark.parametrize("config", [UniformTime(), UniformTime(shift=5.0), LogitNormalTime(), AdaptiveTime()])
def test_times_are_inside_the_interval_for_every_u(config):
    t = create_time_law(config).draw(torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)).t
    assert (t > 0).all()
    assert (t < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 20}, "num_steps: expected more than 20 with linear betas"),
        ({"num_steps": 200, "time_law": AdaptiveTime(num_buckets=201)}, "num_buckets: expected at most num_steps 200"),
    ],
)
def test_combinations_of_steps_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianConfig(**options)

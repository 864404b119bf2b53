import numpy as np
import pytest
import torch

from dit.rng import Purpose, normal, uniform

PINNED_NORMAL = [0.4656996428966522, 0.814720869064331, -0.9673330783843994]
PINNED_UNIFORM = [0.47515916035519756, 0.786614798287926]


def test_a_sample_has_the_same_noise_in_any_batch_order_and_split():
    whole = normal(3, Purpose.START_NOISE, range(8), (4, 2, 2))
    assert torch.equal(normal(3, Purpose.START_NOISE, [5], (4, 2, 2))[0], whole[5])
    assert torch.equal(normal(3, Purpose.START_NOISE, [7, 0, 2], (4, 2, 2)), whole[[7, 0, 2]])
    split = torch.cat([normal(3, Purpose.START_NOISE, part, (4, 2, 2)) for part in (range(3), range(3, 8))])
    assert torch.equal(split, whole)


@pytest.mark.parametrize("change", [{"seed": 4}, {"purpose": Purpose.STEP_NOISE}, {"positions": [1]}, {"step": 1}])
def test_every_argument_changes_the_stream(change):
    arguments = {"seed": 3, "purpose": Purpose.START_NOISE, "positions": [0], "shape": (16,), "step": 0}
    first, second = (normal(**arguments), normal(**(arguments | change)))
    assert not torch.isclose(first, second).any()


def test_long_draws_of_neighbouring_positions_and_steps_do_not_overlap():
    draws = [normal(0, Purpose.STEP_NOISE, [p], (4096,), step=s)[0] for p in (0, 1) for s in (0, 1)]
    values = torch.cat(draws)
    assert values.unique().numel() > 0.999 * values.numel()


def test_moments_of_a_large_draw():
    noise = normal(1, Purpose.TRAIN_NOISE, range(2000), (50,))
    assert noise.dtype == torch.float32
    assert abs(noise.mean().item()) < 4 / np.sqrt(noise.numel())
    assert abs(noise.var().item() - 1) < 4 * np.sqrt(2 / noise.numel())
    u = uniform(1, Purpose.TIMESTEP, range(20000))
    assert u.dtype == torch.float64
    assert abs(u.mean().item() - 0.5) < 4 / np.sqrt(12 * 20000)
    assert u.min() >= 0
    assert u.max() < 1


def test_streams_are_pinned():
    """numpy keeps Philox's bits for ever, but may change how it makes normals of them: resumed runs would differ."""
    torch.testing.assert_close(
        normal(0, Purpose.START_NOISE, [0], (3,))[0], torch.tensor(PINNED_NORMAL), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        uniform(0, Purpose.TIMESTEP, [0, 1]), torch.tensor(PINNED_UNIFORM, dtype=torch.float64), rtol=0, atol=1e-12
    )

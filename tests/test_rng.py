import numpy as np
import pytest
import torch

from dit.rng import Purpose, StepDraws, block_seed, normal, uniform

PINNED_NORMAL = [0.4656996428966522, 0.814720869064331, -0.9673330783843994]
PINNED_UNIFORM = [0.47515916035519756, 0.786614798287926]
PINNED_ROWS = [0.6789820234248449, 0.19949719208588423]
PINNED_ROW_NOISE = [0.03959983214735985, -0.36758264899253845]


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


@pytest.mark.parametrize("batch_size", [96, 80])
@pytest.mark.parametrize("size", [96, 48, 32, 20, 16, 5, 1])
def test_rows_of_a_step_are_the_same_in_any_split(batch_size, size):
    whole = StepDraws(3, 7, batch_size, range(batch_size))
    parts = [
        StepDraws(3, 7, batch_size, range(start, min(start + size, batch_size))) for start in range(0, batch_size, size)
    ]
    noise = torch.cat([part.normal(Purpose.TRAIN_NOISE, (2, 3, 3)) for part in parts])
    assert torch.equal(noise, whole.normal(Purpose.TRAIN_NOISE, (2, 3, 3)))
    u = torch.cat([part.uniform(Purpose.TIMESTEP) for part in parts])
    assert torch.equal(u, whole.uniform(Purpose.TIMESTEP))


@pytest.mark.parametrize("change", [{"seed": 4}, {"step": 1}, {"rows": range(32, 64)}])
def test_every_seed_step_block_and_purpose_draws_anew(change):
    arguments = {"seed": 3, "step": 0, "batch_size": 64, "rows": range(32)}
    one, other = StepDraws(**arguments), StepDraws(**(arguments | change))
    assert not torch.isclose(one.uniform(Purpose.FLIP), other.uniform(Purpose.FLIP)).any()
    assert not torch.isclose(one.uniform(Purpose.FLIP), one.uniform(Purpose.LABEL_DROP)).any()


def test_moments_of_a_large_step():
    draws = StepDraws(1, 2, 20_000, range(20_000))
    noise, latents = (draws.normal(purpose, (50,)) for purpose in (Purpose.TRAIN_NOISE, Purpose.LATENT_DRAW))
    assert noise.dtype == torch.float32
    error = 4 / np.sqrt(noise.numel())
    assert abs(noise.mean().item()) < error
    assert abs(noise.var().item() - 1) < np.sqrt(2) * error
    assert abs((noise * latents).mean().item()) < error
    assert abs((noise[:-32] * noise[32:]).mean().item()) < error  # of one block and the next
    u = draws.uniform(Purpose.TIMESTEP)
    assert u.dtype == torch.float64
    assert abs(u.mean().item() - 0.5) < 4 / np.sqrt(12 * 20_000)
    assert 0 <= u.min() < u.max() < 1


def test_no_two_blocks_of_a_purpose_share_a_seed():
    """Of a CPU's generator, which drops the high half of a seed; and blocks beyond 2**32 differ in that half."""
    first = (0, 2**31, 2**32 - 2**17)
    numbers = [start + k for start in first for k in range(2**17)]
    seeds = {block_seed(0, Purpose.TRAIN_NOISE, number) for number in numbers}
    assert len({seed % 2**32 for seed in seeds}) == len(numbers)
    assert block_seed(0, Purpose.FLIP, 5) != block_seed(0, Purpose.FLIP, 5 + 2**32)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_draws_of_training_are_pinned():
    """torch promises its streams within a version alone: with other numbers resumed runs would differ."""
    draws = StepDraws(0, 3, 64, range(33, 35))
    torch.testing.assert_close(
        draws.uniform(Purpose.TIMESTEP), torch.tensor(PINNED_ROWS, dtype=torch.float64), rtol=0, atol=1e-15
    )
    torch.testing.assert_close(  # processors differ in the last bits of logarithm and cosine
        draws.normal(Purpose.TRAIN_NOISE, (1,)).flatten(), torch.tensor(PINNED_ROW_NOISE), rtol=0, atol=1e-5
    )

import math

import pytest
import torch

from dit.diffusion.config import GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError, DitError
from dit.sampling.bound import variational_bound
from tests.goldens import load_network
from tests.proofs.gaussian_data import GaussianData, process_of
from tests.proofs.test_variational_bound import expected_bound, path_of

Y = torch.tensor([0, 3])


def test_drawn_terms_are_the_expected_ones_within_four_standard_errors():
    """256 latents of 16 dimensions from N(0.3, 0.5^2), one draw of noise per step."""
    process, data = process_of("discrete_linear", num_steps=60), GaussianData(path_of("linear", 60), 0.3, 0.5)
    generator = torch.Generator().manual_seed(0)
    x_0 = 0.3 + 0.5 * torch.randn(256, 1, 4, 4, dtype=torch.float64, generator=generator)
    y = torch.zeros(256, dtype=torch.int64)
    bound = variational_bound(data.network(process), process, x_0, y, variance="upper")
    prior, terms = expected_bound(process, data)
    error = 4 / 256**0.5
    assert ((bound.terms.mean(0) - terms).abs() < error * bound.terms.std(0) + 1e-6).all()
    assert abs(bound.prior.mean() - prior) < error * bound.prior.std()
    assert abs(bound.total.mean() - prior - terms.sum()) < error * bound.total.std()
    # The prior is small beside the scatter of the terms, and still counts.
    alone = process.prior_bits_per_dim(x_0) * math.log(2)
    torch.testing.assert_close(bound.total - bound.terms.sum(1), alone, rtol=1e-6, atol=0)


def test_each_term_is_the_training_loss_of_its_step():
    """The published losses hold terms 1 and above in bits, and at step 0 the probability of an 8-bit bin."""
    network, golden = load_network("dit_p2_sigma")
    process = create_process(GaussianConfig(num_steps=30))
    x_0 = golden["x"][:2].double()
    bound = variational_bound(network, process, x_0, Y)
    from dit.rng import Purpose, normal

    for k in (0, 1, 29):
        noise = normal(0, Purpose.TRAIN_NOISE, range(2), (4, 8, 8), step=k)
        u = torch.full((2,), (k + 0.5) / 30, dtype=torch.float64)
        expected = process.losses(network, x_0.float(), Y, noise=noise, u=u).terms["vb"].double() * math.log(2)
        found = bound.terms[:, k] if k else bound.discretised
        # Differences of probabilities lose digits in the losses' float32.
        torch.testing.assert_close(found, expected, rtol=1e-4 if k else 1e-2, atol=1e-6)


def test_a_sample_has_the_same_bound_in_any_batch():
    network, golden = load_network("dit_p2_sigma")
    process = create_process(GaussianConfig(num_steps=30))
    whole = variational_bound(network, process, golden["x"][:2], Y, seed=4)
    part = variational_bound(network, process, golden["x"][[1]], Y[[1]], seed=4, positions=[1])
    torch.testing.assert_close(part.terms, whole.terms[[1]], rtol=1e-4, atol=1e-5)
    shares = []
    variational_bound(network, process, golden["x"][:2], Y, seed=5, progress=shares.append)
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_a_learned_variance_needs_a_network_that_learned_one():
    process = process_of("discrete_linear", num_steps=30)
    with pytest.raises(ConfigError, match="learned needs a network with learn_sigma"):
        variational_bound(lambda x, t, y: x, process, torch.zeros(2, 1, 2, 2), Y, variance="learned")


def test_damaged_weights_are_an_error_rather_than_a_number():
    process = process_of("discrete_linear", num_steps=30)
    with pytest.raises(DitError, match="not finite"):
        variational_bound(lambda x, t, y: x * torch.nan, process, torch.zeros(2, 1, 2, 2), Y)

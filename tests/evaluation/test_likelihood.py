import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from dit.errors import ConfigError
from dit.evaluation.likelihood import evaluate_likelihood, gaussian_nll
from dit.evaluation.likelihood_result import print_likelihood
from dit.sampling.config import LikelihoodConfig
from tests.proofs.gaussian_data import GaussianData, process_of
from tests.proofs.reference import PATHS
from tests.proofs.test_variational_bound import expected_bound, path_of

STD = 0.7
CLASSES = ("a", "b", "c")


class Network(nn.Module):
    """The optimal network of latents N(label, STD^2): every class has its own mean."""

    def __init__(self, process, path):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.of_class = [GaussianData(path, mean, STD).network(process) for mean in (0.0, 1.0, 2.0)]

    def forward(self, x, t, y):
        outputs = torch.stack([network(x, t, y) for network in self.of_class])  # (3, B, C, H, W)
        return outputs[y, torch.arange(len(y))]


class Latents:
    """Held-out moments: latents of class c are c + STD times normal numbers, drawn without further noise."""

    latents_shape, fingerprint = (2, 4, 4), "f" * 64

    def __init__(self, num=150, class_names=CLASSES):
        self.class_names = class_names
        self.labels = np.arange(num) % 3
        noise = np.random.default_rng(0).standard_normal((num, 2, 4, 4))
        self.moments = torch.tensor(noise * STD).float()
        # Label numbers follow the data's order of names, the network's means the model's.
        means = torch.tensor(
            [float(CLASSES.index(class_names[label])) if class_names else 0.0 for label in self.labels]
        )
        self.moments += means.reshape(-1, 1, 1, 1)

    def __len__(self):
        return len(self.labels)

    @property
    def num_classes(self):
        return len(self.class_names)

    def get(self, indices):
        return self.moments[indices], torch.from_numpy(self.labels[indices])


class Codec:
    """Latents are their own moments, halved by the normalisation."""

    def latents_from_moments(self, moments, noise):
        assert noise.shape == moments.shape
        return moments


def run(name="linear", *, held_out=None, class_names=CLASSES, process=None, path=None, **options):
    process = process or process_of(name)
    network = Network(process, path or PATHS[name])
    likelihood = LikelihoodConfig(**({"num": 150, "steps": 64} | options))
    return evaluate_likelihood(
        network, process, Codec(), held_out or Latents(), likelihood, class_names=class_names, batch_size=40
    )


ENTROPY = 0.5 * math.log(2 * math.pi * math.e * STD**2)


@pytest.mark.parametrize("class_names", [CLASSES, ("c", "a", "b")], ids=["same order", "other order"])
def test_the_optimal_networks_likelihood_is_the_entropy_whatever_the_order_of_classes(class_names):
    """Within 4 standard errors, which are those of the mean of z^2 / 2 over 150 x 32 numbers."""
    found = run(held_out=Latents(class_names=class_names))
    assert abs(found.nll.nats_per_dim - ENTROPY) < 4 * found.nll.standard_error
    assert found.nll.standard_error == pytest.approx((0.5 / (150 * 32)) ** 0.5, rel=0.3)
    assert found.nll.bits_per_dim == pytest.approx(found.nll.nats_per_dim / math.log(2))
    assert (found.num, found.num_dims, found.num_calls, found.t_end, found.bound) == (150, 32, 128, 0, None)
    # One Gaussian for all classes is wider: variance 2 / 3 between the classes.
    assert found.gaussian.nats_per_dim == pytest.approx(
        0.5 * math.log(2 * math.pi * math.e * (STD**2 + 2 / 3)), abs=0.05
    )


def test_a_gaussian_process_has_its_bound_beside_it():
    process, path = process_of("discrete_linear", num_steps=60), path_of("linear", 60)
    found = run(process=process, path=path, num=149, steps=32)
    bound = found.bound
    prior, terms = expected_bound(process, GaussianData(path, 0.0, STD))
    # The terms do not depend on the mean but through the prior.
    assert abs(bound.steps.nats_per_dim - terms[1:].sum()) < 4 * bound.steps.standard_error
    assert abs(bound.step_0.nats_per_dim - terms[0]) < 4 * bound.step_0.standard_error
    parts = bound.prior.nats_per_dim + bound.steps.nats_per_dim + bound.step_0.nats_per_dim
    assert bound.total.nats_per_dim == pytest.approx(parts)
    assert bound.total.nats_per_dim > found.nll.nats_per_dim
    assert len(bound.terms) == 60
    assert bound.variance == "upper"
    assert found.smoothing == pytest.approx(path.sigma(1 / 60) / path.alpha(1 / 60), rel=1e-6)
    assert prior < bound.prior.nats_per_dim  # means of 1 and 2


def test_several_probes_show_their_part_of_the_error():
    assert run(num=20, steps=2).probe_standard_error is None
    signs = run(num=20, steps=2, num_probes=3)
    normals = run(num=20, steps=2, num_probes=3, probes="gaussian")
    assert signs.probe_standard_error < 1e-6  # exact on this diagonal Jacobian
    assert 0 < normals.probe_standard_error < normals.nll.standard_error


def test_a_choice_of_latents_is_made_by_the_seed_and_not_by_batches():
    held_out = Latents()
    arguments = Network(process_of("linear"), PATHS["linear"]), process_of("linear"), Codec(), held_out
    likelihood = LikelihoodConfig(num=20, steps=2)
    first, again, other = (
        evaluate_likelihood(*arguments, likelihood, class_names=CLASSES, seed=seed, batch_size=size)
        for seed, size in ((0, 7), (0, 20), (1, 20))
    )
    assert first.nll.nats_per_dim == pytest.approx(again.nll.nats_per_dim, rel=1e-6)
    assert first.nll.nats_per_dim != pytest.approx(other.nll.nats_per_dim, rel=1e-6)


def test_unconditional_models_see_the_null_class_alone():
    found = run(held_out=Latents(class_names=()), class_names=(), num=30, steps=2)
    assert found.num == 30


def test_latents_of_other_classes_or_too_few_are_refused():
    with pytest.raises(
        ConfigError, match=r"data: expected held-out images of the model's classes 'x', \.\.\., found 'a'"
    ):
        run(class_names=("x", "b", "c"))
    with pytest.raises(ConfigError, match="data: expected at least 2 held-out images for a likelihood, found 1"):
        run(held_out=Latents(num=1))


def test_figures_are_plain_json_and_printed_with_their_errors_and_meaning(capsys):
    found = run(process=process_of("discrete_linear", num_steps=30), path=path_of("linear", 30), num=10, steps=2)
    report = json.loads(json.dumps(found.to_dict()))
    assert report["unit"] == "nats per latent dimension"
    for figure in (report["nll"], report["gaussian"], report["bound"]["total"], report["bound"]["discretised"]):
        assert figure["bits_per_dim"] == pytest.approx(figure["nats_per_dim"] / math.log(2))
        assert figure["standard_error"] > 0
    assert len(report["bound"]["terms"]) == 30
    assert "counts no bits" in report["bound"]["meaning_of_step_0"]
    assert report["settings"]["steps"] == 2
    print_likelihood(found)
    text = capsys.readouterr().out
    for words in (
        "bits per dimension of the latent",
        "none can be compared with bits per pixel",
        "±",
        "NLL by the ODE",
        "prior",
        "t=0 in training",
        "counts no bits",
    ):
        assert words in text


def test_the_gaussians_figure_is_that_of_torch():
    latents = (
        torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 3])[:, None, None]
    )
    normal = torch.distributions.Normal(latents.mean(dim=(0, 2, 3)), latents.transpose(0, 1).flatten(1).std(dim=1))
    expected = -normal.log_prob(latents.permute(0, 2, 3, 1)).flatten(1).mean(1)
    torch.testing.assert_close(gaussian_nll(latents).float(), expected)

"""Passes of small batches, of which losses are taken alone."""

import numpy as np
import torch

from dit.rng import StepDraws
from dit.training.batch import Batch
from dit.training.objectives.auxiliary import Pass, Surroundings
from dit.training.ranks.processes import start_processes
from tests.training.fakes import make_recipe


def surroundings_of(network, average=None):
    """The small recipe's run around a network."""
    train = make_recipe().train
    average = network if average is None else average
    return Surroundings(network.arguments, average, start_processes(train), train.seed, train.max_steps)


def make_batch(x_0, y, noise, u, **others):
    """A batch of given tensors: the whole of step 0."""
    num = len(x_0)
    draws = StepDraws(0, 0, num, range(num))
    places = {"positions": range(num), "indices": np.arange(num), "draws": draws}
    return Batch(**places | others, x_0=x_0, y=y, noise=noise, u=u)


def pass_through(network, process, x_0, y, *, noise, t, tokens=None, **others):
    """What a loss sees of a network at times t (B,)."""
    batch = make_batch(x_0, y, noise, t.double(), **others)
    x_t = process.corrupt(x_0, noise, t)
    output = network(process.model_input(x_t, t), process.model_time(t), y)
    return Pass(0, batch, process, network, t.double(), output, tokens)


def pass_of_tokens(tokens, **others):
    """A pass of which nothing but the tokens (B, T, D) is looked at."""
    num = len(tokens)
    batch = make_batch(torch.zeros(num, 1, 1, 1), torch.zeros(num), torch.zeros(num), torch.zeros(num), **others)
    return Pass(0, batch, None, None, torch.ones(num), torch.zeros(num), tokens)

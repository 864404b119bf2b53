"""The bytes of a training step: a closed form of the parameters."""

from dit.bench.train_step import held_bytes
from dit.models.registry import create_model
from dit.training.config import LoraConfig, OptimConfig


def test_a_trained_number_is_held_five_times_and_a_frozen_one_once():
    sizes = [(p.numel(), p.requires_grad) for p in create_model("dit_ti_2").parameters()]
    numbers = sum(size * (5 if trained else 1) for size, trained in sizes)
    counts = sum(trained for _, trained in sizes)  # of its steps, for each parameter
    assert held_bytes(create_model("dit_ti_2"), OptimConfig()) == 4 * (numbers + counts)

    model, lora = create_model("dit_ti_2"), LoraConfig(rank=1, targets=("*.attn.qkv",))
    width, depth = model.arguments.hidden_size, model.arguments.depth
    numbers = sum(size for size, _ in sizes) + 5 * depth * 4 * width  # A is of one width, B of three
    counts = 2 * depth + 2 * depth  # and alpha, of the network and of the average
    assert held_bytes(model, OptimConfig(trainable=lora)) == 4 * (numbers + counts)

"""Plans against what was published."""

import pytest

from dit.models.counts import count
from dit.models.families import arguments_of
from dit.training.plan import GPUS, Plan, read_count


def plan(name, num_images, *, gpus=8, kind="h100", utilisation=0.2):
    return Plan(count(name, arguments_of(name)).macs, num_images, gpus, GPUS[kind], utilisation)


@pytest.mark.parametrize(
    ("name", "gmacs"), [("dit_s_2", 6.06), ("dit_b_2", 23.01), ("dit_l_2", 80.71), ("dit_xl_2", 118.64)]
)
def test_operations_are_those_of_the_paper(name, gmacs):
    """DiT's table 4 counts multiply-accumulates of a forward pass, and rounds."""
    assert plan(name, 1).operations == pytest.approx(6e9 * gmacs, rel=2e-3)


def test_time_is_that_of_a_published_run():
    """LightningDiT's 64 epochs on 8 H800, with the products of an H100: about 10 hours, which were 20% of them."""
    assert plan("lightningdit_xl_1", 64 * 1_281_167).seconds / 3600 == pytest.approx(10, rel=0.1)


def test_a_ring_sends_the_gradients_twice():
    assert plan("dit_s_2", 1, gpus=1).bytes_sent(1000) == 0
    assert plan("dit_s_2", 1, gpus=4).bytes_sent(1000) == 1500


def test_parts_are_gathered_twice_in_two_bytes_and_summed_once_in_four():
    def sent(parts):
        return Plan(1, 1, 32, GPUS["h100"], 0.2, parts).bytes_sent(32_000)

    assert sent(1) == 2 * 31 / 32 * 32_000
    assert sent(32) == pytest.approx(sent(1))  # 2 + 2 + 4 bytes of a number in place of twice 4
    assert sent(8) == pytest.approx(2 * 7 / 8 * 32_000 + 2 * 3 / 4 * 4_000)


def test_counts_are_read():
    assert [read_count(text) for text in ("1281167", "400M", "1.2b", "64k")] == [1281167, 4e8, 1.2e9, 6.4e4]
    for text in ("", "M", "many"):
        with pytest.raises(ValueError, match="could not convert"):
            read_count(text)

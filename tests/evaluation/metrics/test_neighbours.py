import pytest
import torch

from dit.evaluation.metrics import neighbours
from dit.evaluation.metrics.neighbours import ADM, EXACT, neighbour_distances, tiles
from tests.evaluation.metrics.pairs import normal
from tests.goldens import load_tensors

PAIRS = ("mixture", "relu", "heavy", "rank", "few", "far", "ties")


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)


@pytest.mark.parametrize("name", PAIRS)
def test_radii_equal_the_original_evaluators(name):
    """float16 has 11 bits, float32 24: a sum of 48 squares is some units in the last place of the largest norm off."""
    tensors = load_tensors("evaluation")
    rows = tensors[f"{name}_ref"]
    exact = tensors[f"radii/{name}_squared_exact"].double()
    torch.testing.assert_close(neighbour_distances(rows, 3, EXACT), exact, rtol=1e-6, atol=1e-6)
    norm = rows.square().sum(dim=1).max().item()
    unit = 2**-24 if norm > 65504 else 2**-11  # what overflows is computed in float32
    half = tensors[f"radii/{name}_squared_float16_path"].double()
    torch.testing.assert_close(
        neighbour_distances(rows, 3, ADM), half, rtol=0, atol=(16 if norm > 65504 else 4) * unit * norm
    )


@pytest.mark.parametrize("arithmetic", [EXACT, ADM])
def test_tiles_make_no_difference(arithmetic, small_tiles):
    rows, others = normal(40, 5).float(), normal(30, 5, seed=1).float()
    whole = torch.full((40, 30), torch.nan).double()
    for tile in tiles(rows, others, arithmetic):
        whole[tile.a, tile.b] = tile.distances.double()
    tolerance = 1e-12 if arithmetic is EXACT else 0.03  # float16
    expected = torch.cdist(rows.double(), others.double()).square()
    torch.testing.assert_close(whole, expected, rtol=tolerance, atol=tolerance)
    own = torch.cdist(rows.double(), rows.double()).square().sort(dim=1).values[:, 3]
    torch.testing.assert_close(neighbour_distances(rows, 3, arithmetic), own, rtol=tolerance, atol=tolerance)


def test_fewer_rows_than_neighbours_have_none():
    assert neighbour_distances(normal(3, 2), 3, EXACT).tolist() == [torch.inf] * 3


def test_repeated_rows_tie_to_the_last_bit(small_tiles):
    """Every row lies on the edge of a ball: rounding must not throw half of them out."""
    rows = normal(30, 64, seed=3).float() + 10
    radii = neighbour_distances(torch.cat([rows, rows]), 2, EXACT)[:30]
    nearest = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist").topk(
        2, largest=False
    )
    torch.testing.assert_close(radii, nearest.values[:, 1].square(), rtol=1e-12, atol=0)
    on_edge = 0
    for tile in tiles(rows, rows.clone(), EXACT):
        bounds = radii[tile.a, None]
        on_edge += int((tile.beside(bounds) == bounds).sum())
    assert on_edge == 30

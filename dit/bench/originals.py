"""The figures of samples by the formulas of ADM's evaluator in NumPy and SciPy, as peers.

Precision and recall are in float32 here, in the original in float16: NumPy has no fast products of that.

Shapes: N samples, M reference images, D features, K outputs of the classifier.
"""

import numpy as np

NAME = "NumPy and SciPy"
NEIGHBOURHOOD = 3
ROWS = 1_000
"""Rows whose distances from all others are in memory at a time; the original takes up to 10,000."""
Statistics = tuple[np.ndarray, np.ndarray]
"""Mean (D,) and covariance (D, D)."""


def statistics(rows: np.ndarray) -> Statistics:
    """Return mean and covariance of features (N, D)."""
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def frechet_distance(found: Statistics, known: Statistics) -> float:
    """Return the distance by the root of a product, which is not symmetric."""
    from scipy.linalg import sqrtm

    difference, root = found[0] - known[0], np.real(sqrtm(found[1] @ known[1]))
    return float(difference @ difference + np.trace(found[1] + known[1] - 2 * root))


def inception_score(logits: np.ndarray, num_splits: int, *, seed: int | None = None) -> float:
    """Return the mean score of equal splits of logits (N, K), shuffled where a seed is given."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    if seed is not None:
        p = p[np.random.RandomState(seed).permutation(len(p))]
    splits = (split * (np.log(split) - np.log(split.mean(axis=0))) for split in np.array_split(p, num_splits))
    return float(np.mean([np.exp(split.sum(axis=1).mean()) for split in splits]))


def precision_recall(samples: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Return both of features (N, D) beside a reference's (M, D)."""
    edges, edges_known = (_neighbour_distances(rows) for rows in (samples, known))  # (N,), (M,)
    is_real, is_covered = np.zeros(len(samples), dtype=bool), []
    for start in range(0, len(known), ROWS):
        across = _squared_distances(known[start : start + ROWS], samples)  # (ROWS, N)
        is_real |= (across <= edges_known[start : start + ROWS, None]).any(axis=0)
        is_covered.append((across <= edges).any(axis=1))
    return float(is_real.mean()), float(np.concatenate(is_covered).mean())


def _neighbour_distances(rows: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row to its third neighbour: (N,)."""
    blocks = (_squared_distances(rows[start : start + ROWS], rows) for start in range(0, len(rows), ROWS))
    return np.concatenate([np.partition(block, NEIGHBOURHOOD, axis=1)[:, NEIGHBOURHOOD] for block in blocks])


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (A, B) of rows (A, D) and (B, D)."""
    return np.maximum((a * a).sum(axis=1)[:, None] - 2 * a @ b.T + (b * b).sum(axis=1), 0)

"""Wilson score bounds: how far a share seen in a few requests may be from the true one."""

from math import sqrt


def lower_bound(hits: int, n: int, *, z: float) -> float:
    """One-sided lower bound of the true rate; 0 without data."""
    return _bounds(hits, n, z)[0]


def upper_bound(hits: int, n: int, *, z: float) -> float:
    """One-sided upper bound of the true rate; 1 without data."""
    return _bounds(hits, n, z)[1]


def _bounds(hits: int, n: int, z: float) -> tuple[float, float]:
    if n == 0:
        return 0.0, 1.0
    rate, zz = hits / n, z * z
    centre = rate + zz / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + zz / (4 * n * n))
    scale = 1 + zz / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

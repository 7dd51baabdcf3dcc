"""Shapes for each regime of the mixture kernels, for property tests over all of them."""

from hypothesis import HealthCheck, settings

# The shapes of x, logits, mu and scale for N samples of D features under K components.
REGIMES = {
    "own": lambda n, k, d: ((n, d), (n, k), (n, k, d), (n, k, d)),
    "spherical": lambda n, k, d: ((n, d), (n, k), (n, k, d), (n, k, 1)),
    "one mean": lambda n, k, d: ((n, d), (n, k), (n, k, 1), (n, k, d)),
    "tied": lambda n, k, d: ((n, d), (n, k), (n, k, d), (n, 1, d)),
    "shared": lambda n, k, d: ((n, d), (k,), (k, d), (k, d)),
    "shared spherical": lambda n, k, d: ((n, d), (k,), (k, d), (1, 1)),
    "shared scale": lambda n, k, d: ((n, d), (n, k), (n, k, d), (k, d)),
    "positions": lambda n, k, d: ((n, 16, d), (n, 16, k), (16, k, d), (16, k, d)),
}
SIZES = [(3, 2, 1), (40, 3, 2), (3, 5, 4), (5, 2, 7), (40, 3, 20), (3, 2, 32), (2, 70, 16)]

# `device` serves all examples of a test alike.
modest = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)

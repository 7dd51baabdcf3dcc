"""What became faster or slower since other results."""

from typing import NamedTuple

from benchmarks.results import Report, Result

# Medians that are nearer than this may differ by where the memory happens to lie.
_LEAST_CHANGE = 0.05


class Change(NamedTuple):
    """Seconds before and now, of the same provider in the same comparison."""

    result: Result
    before: float
    now: float


def changes(now: Report, before: Report) -> list[Change]:
    """Those beyond noise, the largest first: medians more than 5 % apart, middle 60 % of times disjoint."""
    old = {(result.comparison, result.provider): result for result in before.results}
    found = []
    for result in now.results:
        other = old.get((result.comparison, result.provider))
        if other is not None and _differ(result, other):
            assert result.median is not None
            assert other.median is not None
            found.append(Change(result, other.median, result.median))
    return sorted(found, key=lambda change: change.now / change.before, reverse=True)


def _differ(a: Result, b: Result) -> bool:
    if a.quantiles is None or b.quantiles is None:
        return False
    fast, slow = sorted((a.quantiles, b.quantiles), key=lambda quantiles: quantiles["50%"])
    return slow["50%"] > (1 + _LEAST_CHANGE) * fast["50%"] and slow["20%"] > fast["80%"]

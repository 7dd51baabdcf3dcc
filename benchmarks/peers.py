"""How the operators compare with their fastest peers."""

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.case import FORWARD, OWN
from benchmarks.results import Report, Result

# The column of a table or the mark of a chart that a mode belongs to.
VALUE, TRAINING = "forward", "training"


class Pair(NamedTuple):
    """An operator and its fastest peer in the same comparison; both were timed."""

    own: Result
    peer: Result

    @property
    def times_faster(self) -> float:
        assert self.own.median is not None
        assert self.peer.median is not None
        return self.peer.median / self.own.median


def fastest_peer(providers: Mapping[str, Result]) -> Result | None:
    timed = [result for result in providers.values() if result.median and result.provider != OWN]
    return min(timed, key=lambda result: result.median or 0.0, default=None)


def kind_of(mode: str) -> str:
    """`VALUE` for calls without gradients, `TRAINING` for all others."""
    return VALUE if mode == FORWARD.name else TRAINING


def least_favourable_pairs(report: Report) -> dict[tuple[str, str], dict[str, Pair]]:
    """The pair with the lowest ratio among the regimes of memory, by operator and case, then by kind of mode.

    Where a case has several modes with gradients, the last one counts, which computes the most.
    """
    modes: dict[tuple[str, str], dict[str, list[Pair]]] = {}
    for (operator, case, mode, _), providers in report.comparisons():
        own, peer = providers.get(OWN), fastest_peer(providers)
        if own is not None and own.median and peer is not None:
            modes.setdefault((operator, case), {}).setdefault(mode, []).append(Pair(own, peer))
    return {
        key: {
            kind_of(mode): min(pairs, key=lambda pair: pair.times_faster) for mode, pairs in by_mode.items()
        }
        for key, by_mode in modes.items()
    }

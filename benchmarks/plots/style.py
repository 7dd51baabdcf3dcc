"""What all plots of a run share: their style and the colours of the providers."""

from typing import Any

from benchmarks.case import OWN
from benchmarks.results import Report

STYLE: Any = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "font.size": 10}

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
OWN_COLOUR = "#D55E00"
_PEERS = ("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#999999", "#000000")


def colours(report: Report, operator: str) -> dict[str, str]:
    """The colour of each provider of an operator, in the order of the results."""
    results = [result for result in report.results if result.operator == operator]
    peers = dict.fromkeys(result.provider for result in results if result.provider != OWN)
    return {OWN: OWN_COLOUR} | {peer: _PEERS[i % len(_PEERS)] for i, peer in enumerate(peers)}

"""The same colour for the same provider in all plots of a run."""

from benchmarks.case import OWN
from benchmarks.results import Report

# Okabe and Ito's, which colour-blind readers tell apart.
_OWN_COLOUR = "#D55E00"
_PEERS = ("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#999999", "#000000")


def colours(report: Report, operator: str) -> dict[str, str]:
    """Of the providers of an operator, in their order."""
    results = [result for result in report.results if result.operator == operator]
    peers = dict.fromkeys(result.provider for result in results if result.provider != OWN)
    return {OWN: _OWN_COLOUR} | {peer: _PEERS[i % len(_PEERS)] for i, peer in enumerate(peers)}


def machine(report: Report) -> str:
    """The hardware in a line."""
    environment = report.environment
    return environment["gpu"] or f"{environment['cpu']}, {environment['threads']} threads"

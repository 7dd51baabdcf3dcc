"""Which providers are timed, and what is reported about the others."""

import time

import pytest
import torch
from torch import Tensor

from benchmarks.allocator import FRESH, WARM
from benchmarks.case import FORWARD, GRADIENTS, OWN, Provider
from benchmarks.gmm import in_chunks
from benchmarks.measurement import measure_case
from benchmarks.timing import SCHEDULES, Schedule, time_in_turns
from vtadl_ext import reference

CPU = torch.device("cpu")


def measure(case):
    return {
        (result.provider, result.mode): result
        for result in measure_case("products", case, CPU, SCHEDULES["smoke"], [FRESH])
    }


def test_a_provider_that_agrees_is_timed(make_case):
    results = measure(make_case(Provider("peer", lambda x, y: torch.dot(x.flatten(), y.flatten()))))
    assert {key: result.status for key, result in results.items()} == {
        (provider, mode): "timed" for provider in (OWN, "peer") for mode in ("forward", "gradients")
    }
    assert all(result.quantiles["50%"] > 0 and result.rounds == 1 for result in results.values())


def test_a_provider_whose_value_disagrees_is_reported_and_not_timed(make_case):
    results = measure(make_case(Provider("peer", lambda x, y: 1.01 * (x * y).sum())))
    wrong = results["peer", "forward"]
    assert (wrong.status, wrong.quantiles) == ("disagrees", None)
    assert wrong.error == pytest.approx(0.01, rel=1e-3)
    assert results[OWN, "forward"].quantiles is not None


def test_a_provider_whose_gradient_disagrees_is_timed_without_it_alone(make_case):
    def without_second_gradient(x: Tensor, y: Tensor) -> Tensor:
        return (x * y.detach()).sum() + 0 * y.sum()

    results = measure(make_case(Provider("peer", without_second_gradient)))
    assert results["peer", "forward"].status == "timed"
    assert (results["peer", "gradients"].status, results["peer", "gradients"].quantiles) == (
        "disagrees",
        None,
    )


def test_a_provider_that_returns_nan_disagrees(make_case):
    results = measure(make_case(Provider("peer", lambda x, y: (x * y).sum() * float("nan"))))
    assert results["peer", "forward"].status == "disagrees"


def test_a_provider_that_raises_is_reported_with_its_error_and_the_others_are_timed(make_case):
    def broken(x: Tensor, y: Tensor) -> Tensor:
        raise RuntimeError("no such kernel\nat line 1")

    results = measure(make_case(Provider("peer", broken)))
    assert results["peer", "forward"].status == "failed"
    assert results["peer", "forward"].detail == "RuntimeError: no such kernel"
    assert results[OWN, "forward"].status == "timed"


def test_a_provider_that_is_not_installed_is_reported(make_case):
    results = measure(make_case(Provider("peer", torch.dot, package="no_such_package")))
    assert results["peer", "forward"].status == "not installed"


def test_a_provider_of_another_device_or_mode_is_left_out(make_case):
    assert ("peer", "forward") not in measure(make_case(Provider("peer", torch.dot, devices=("cuda",))))
    results = measure(make_case(Provider("peer", lambda x, y: (x * y).sum(), modes=("forward",))))
    assert ("peer", "forward") in results
    assert ("peer", "gradients") not in results


def test_a_slow_peer_is_timed_in_the_first_regime_alone_and_the_operator_in_both(make_case, monkeypatch):
    monkeypatch.setattr("benchmarks.measurement._SLOW_SECONDS", 0.0)
    case = make_case(Provider("peer", lambda x, y: (x * y).sum()), modes=(FORWARD,))
    results = measure_case("products", case, CPU, SCHEDULES["smoke"], [FRESH, WARM])
    assert [(result.provider, result.regime, result.status) for result in results] == [
        (OWN, FRESH, "timed"),
        ("peer", FRESH, "timed"),
        (OWN, WARM, "timed"),
        ("peer", WARM, "too slow"),
    ]
    assert results[3].quantiles is None


def test_bytes_are_those_of_inputs_and_gradients(make_case):
    results = measure(make_case(Provider("peer", torch.dot, devices=("cuda",))))
    assert (results[OWN, "forward"].read_bytes, results[OWN, "forward"].written_bytes) == (48, 0)
    assert (results[OWN, "gradients"].read_bytes, results[OWN, "gradients"].written_bytes) == (48, 48)


def test_calls_take_turns_and_slow_ones_run_thrice(monkeypatch):
    monkeypatch.setattr("benchmarks.timing._WARMED_SECONDS", 0.1)
    order: list[str] = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.06)

    def slower() -> None:
        order.append("slower")
        time.sleep(0.12)

    times = time_in_turns({"slow": slow, "slower": slower}, CPU, Schedule(6, 0.36))
    assert (times["slow"].rounds, times["slower"].rounds) == (6, 3)
    # Two calls of each show how slow it is; a call that is not too slow runs untimed before each turn.
    assert order[4:] == ["slow", "slow", "slower", "slow", "slow"] * 3
    assert times["slow"].quantiles["50%"] == pytest.approx(0.06, rel=0.5)


def test_a_call_that_fails_when_timed_does_not_stop_the_others():
    def fails() -> None:
        raise RuntimeError("out of memory")

    times = time_in_turns({"fails": fails, "works": lambda: None}, CPU, SCHEDULES["smoke"])
    assert isinstance(times["fails"], RuntimeError)
    assert times["works"].rounds == 1


@pytest.mark.parametrize(
    "shapes", [((9, 2), (9, 3), (9, 3, 2)), ((9, 2), (3,), (3, 2)), ((9, 4, 2), (9, 4, 3), (4, 3, 2))]
)
def test_the_reference_in_chunks_is_the_reference(shapes, monkeypatch):
    x, logits, mu = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    tensors = GRADIENTS.leaves([x, logits, mu, 0.1 * torch.randn_like(mu)])
    monkeypatch.setattr("benchmarks.gmm._REFERENCE_ELEMENTS", 10)
    chunked = GRADIENTS(in_chunks(reference.gmm_nll, 40), tensors)
    for got, wanted in zip(chunked, GRADIENTS(reference.gmm_nll, tensors), strict=True):
        torch.testing.assert_close(got, wanted)


def test_forward_alone_records_no_gradients():
    x = torch.ones(3)
    (value,) = FORWARD(lambda x: x.sum(), FORWARD.leaves([x]))
    assert not value.requires_grad


def test_very_long_calls_are_timed_once(monkeypatch):
    monkeypatch.setattr("benchmarks.timing._LONG_SECONDS", 0.01)
    monkeypatch.setattr("benchmarks.timing._VERY_LONG_SECONDS", 0.02)
    times = time_in_turns({"slow": lambda: time.sleep(0.06)}, CPU, Schedule(6, 0.1))
    assert times["slow"].rounds == 1

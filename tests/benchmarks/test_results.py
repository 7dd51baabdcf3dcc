"""Results as files, the figures derived from them, and their comparison with older ones."""

import json
from dataclasses import replace

import pytest

from benchmarks import results
from benchmarks.case import OWN
from benchmarks.compare import changes
from benchmarks.results import Report, derive


def test_results_survive_the_file(report, tmp_path):
    path = results.write(report, tmp_path / "new folder")
    assert path == tmp_path / "new folder" / "results.json"
    assert results.read(path) == report


def test_each_result_is_one_line_of_one_json_object(report, tmp_path):
    for count in (0, 1, len(report.results)):
        text = results.write(replace(report, results=report.results[:count]), tmp_path).read_text()
        assert len(json.loads(text)["results"]) == count
        lines = [line.rstrip(",") for line in text.splitlines() if line.startswith('  {"')]
        assert [json.loads(line) for line in lines] == json.loads(text)["results"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 0}', '{"schema": 1, "results": [{}]}', '{"schema": 1}']
)
def test_a_file_without_results_is_named(text, tmp_path):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(ValueError, match=r"old\.json does not hold results"):
        results.read(tmp_path / "old.json")


def test_the_fraction_is_that_of_the_slower_of_memory_and_arithmetic(make_result):
    limits = {"read": 4e9, "write": 2e9, "copy": 3e9, "flops": 5e9}
    by_memory = make_result(4e-3, read_bytes=4_000_000, written_bytes=2_000_000, flops=5e6)
    by_arithmetic = replace(by_memory, mode="forward", flops=1.5e7)
    on_a_faster_machine = replace(by_memory, mode="first gradient", limits={"read": 8e9, "write": 4e9})
    derived = derive(Report({}, limits, [by_memory, by_arithmetic, on_a_faster_machine])).results
    # Reading and writing take 1 ms each, computing takes 1 or 3 ms; the last limits are twice as high.
    assert [result.fraction_of_limit for result in derived] == pytest.approx([2 / 4, 3 / 4, 1 / 4])


def test_the_fastest_peer_is_neither_the_operator_nor_the_provider_itself(make_result):
    providers = {OWN: 1e-3, "fast": 2e-3, "slow": 8e-3}
    limits = {"read": 1.0, "write": 1.0, "copy": 1.0, "flops": 1.0}
    rows = [make_result(seconds, provider=provider) for provider, seconds in providers.items()]
    derived = derive(Report({}, limits, rows)).results
    assert [result.times_fastest_peer for result in derived] == pytest.approx([1 / 2, 2 / 8, 8 / 2])


def test_only_changes_beyond_noise_are_told_the_worst_first(make_result):
    before = {"same": 1e-3, "noise": 1e-3, "faster": 1e-3, "slower": 1e-3, "much slower": 1e-3, "gone": 1e-3}
    now = {
        "same": 1e-3,
        "noise": 1.15e-3,
        "faster": 0.5e-3,
        "slower": 1.5e-3,
        "much slower": 3e-3,
        "new": 1e-3,
    }

    def report(seconds):
        return Report({}, {}, [make_result(value, case=case) for case, value in seconds.items()])

    found = changes(report(now), report(before))
    assert [change.result.case for change in found] == ["much slower", "slower", "faster"]
    assert (found[0].before, found[0].now) == (1e-3, 3e-3)


def test_steady_times_that_differ_little_are_no_change(make_result):
    def steady(seconds):
        return make_result(seconds, quantiles={"20%": seconds, "50%": seconds, "80%": seconds})

    assert not changes(Report({}, {}, [steady(1.04)]), Report({}, {}, [steady(1.0)]))
    assert changes(Report({}, {}, [steady(1.06)]), Report({}, {}, [steady(1.0)]))

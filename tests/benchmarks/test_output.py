"""The output of a run: the table, the plots, the command line."""

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from benchmarks import plots, table
from benchmarks.case import OWN
from benchmarks.compare import changes
from benchmarks.operators import OPERATORS, cases_of


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def test_the_table_says_how_fast_and_what_could_not_be_timed(report, console, make_result):
    wrong = make_result(1.0, provider="wrong", status="disagrees", quantiles=None, error=0.5)
    slow = make_result(1.0, provider="slow peer", rounds=3, few_rounds=True)
    table.print_report(replace(report, results=[*report.results, wrong, slow]), console)
    text = console.file.getvalue()
    assert "A CPU, 2 threads: read 20.0 GB/s, write 10.0 GB/s, copy 15.0 GB/s, 100 GFLOP/s" in text
    assert "not timed: differs from the reference by 5e-01" in text
    assert "slow, so timed 3 times only" in text
    row = next(line for line in text.splitlines() if "compiled" in line)
    assert [cell.strip() for cell in row.split("│")[4:8]] == ["6", "5.4-6.6", "3.00", ""]


def test_the_table_says_how_many_images_a_second_where_that_is_of_interest(report, console, make_result):
    table.print_report(replace(report, results=[make_result(0.05, images=8)]), console)
    lines = console.file.getvalue().splitlines()
    header = next(line for line in lines if "images/s" in line)
    row = next(line for line in lines if OWN in line and line.startswith("│"))
    column = [cell.strip() for cell in header.split("┃")].index("images/s")
    assert [cell.strip() for cell in row.split("│")][column] == "160"


def test_the_table_of_changes_says_when_there_are_none(report, console):
    table.print_changes(changes(report, report), console)
    assert "Nothing became faster or slower beyond noise." in console.file.getvalue()


def test_the_plots_of_a_report_are_pictures(report, tmp_path):
    paths = list(plots.draw(report, tmp_path))
    assert [path.name for path in paths] == [
        "ratios-gmm.png",
        "roofline.png",
        "scaling-gmm.png",
        "threads.png",
    ]
    for path in paths:
        with Image.open(path) as image:
            # Each plot contains the operator's colour.
            colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
            assert (0xD5, 0x5E, 0x00) in colours


def test_a_report_without_sweeps_has_no_plots_of_them(report, tmp_path):
    cases = [result for result in report.results if result.sweep is None]
    paths = plots.draw(replace(report, results=cases), tmp_path)
    assert [path.name for path in paths] == ["ratios-gmm.png", "roofline.png"]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("level", ["smoke", "quick", "full"])
def test_no_two_cases_of_an_operator_have_the_same_name(operator, level):
    names = [(case.name, case.size) for case in cases_of(operator, level)]
    assert names
    assert len(set(names)) == len(names)


def test_results_to_compare_with_are_read_before_anything_runs(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("{}")
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--compare", str(old)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
    assert f"{old} does not hold results" in process.stderr
    assert "Traceback" not in process.stderr

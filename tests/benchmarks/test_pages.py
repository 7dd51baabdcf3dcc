"""The figures in README.md and docs/benchmarks.md come from the committed results."""

from dataclasses import replace

import pytest
from PIL import Image

from benchmarks import full_tables, headlines, pages, results
from benchmarks.case import OWN
from benchmarks.pages import COMMITTED, END, START
from benchmarks.plots import overview

EMPTY = f"before\n{START}\n{END}\nafter\n"


def written(report, folder):
    """A page with the full tables of a report whose results are in the folder."""
    results.write(report, folder / "a-cpu")
    return pages.updated(EMPTY, full_tables.sections(pages.committed_reports(folder)), "a page")


def test_the_pages_agree_with_the_committed_results():
    reports = pages.committed_reports(COMMITTED)
    for page, section in pages.SECTIONS.items():
        text = page.read_text()
        assert pages.updated(text, section(reports), page.name) == text, "run python -m benchmarks.pages"


def test_the_chart_agrees_with_the_committed_results():
    with Image.open(pages.CHART) as chart:
        figures = chart.info[overview.FINGERPRINT]
    reports = pages.committed_reports(COMMITTED)
    assert figures == overview.fingerprint(reports), "run python -m benchmarks.pages"


def test_figures_are_written_between_the_markers(report, tmp_path):
    (tmp_path / "a-cpu").mkdir()
    (tmp_path / "a-cpu" / "ratios-gmm.png").touch()
    text = written(report, tmp_path)
    assert text.startswith(f"before\n{START}\n### A CPU\n")
    assert text.endswith(f"{END}\nafter\n")
    gradients, _, forward = text.partition("| value alone |")
    # 6 MB: 0.2 ms to read and 0.2 ms to write.
    row = "| gmm, wide head: 2 x 3 | compiled | 3 / 3 | 20 / 40 | 1 MB / 1 MB |"
    assert "| value and gradients |" in gradients
    assert row in gradients
    assert row in forward
    assert "![ratios of gmm](../benchmarks/results/a-cpu/ratios-gmm.png)" in text


def test_images_per_second_have_a_table_of_their_own(report, make_result, tmp_path):
    options = {"operator": "prediction", "case": "small", "images": 8}
    rates = [
        make_result(factor * seconds, provider=provider, regime=regime, **options)
        for regime, factor in (("fresh", 2), ("warm", 1))
        for provider, seconds in ((OWN, 0.05), ("eager", 0.1))
    ]
    text = written(replace(report, results=[*report.results, *rates]), tmp_path)
    assert "| images per second | vtadl_ext | eager | memory |\n| --- | --- | --- | --- |\n" in text
    assert "| prediction, small: 2 x 3 | 160 | 80 | warm |\n" in text
    assert "gmm" not in text.partition("images per second")[2].partition("\n\n")[0]
    # A peer was too slow to be timed again.
    text = written(replace(report, results=[*report.results, *rates[:3]]), tmp_path)
    assert "| prediction, small: 2 x 3 | 80 | 40 | fresh |\n" in text


def test_a_headline_has_the_lower_ratio_of_both_regimes_and_the_command_that_makes_it(
    report, make_result, tmp_path
):
    faster = make_result(1e-4, regime="warm", mode="gradients")
    peer = make_result(1e-3, regime="warm", mode="gradients", provider="compiled")
    forward = make_result(0.05, operator="prediction", case="small", mode="forward")
    slow = replace(forward, provider="eager", quantiles={"20%": 0.02, "50%": 0.025, "80%": 0.03})
    report = replace(report, results=[*report.results, faster, peer, forward, slow])
    lines = headlines.table({tmp_path: report}).splitlines()
    command = "`python -m benchmarks --operators"
    assert lines[2:] == [
        f"| A CPU, 2 threads | {headlines.HEADLINES[0].title}: 2 x 3 | 3.00 (2 ms) | 3.00 (2 ms) | compiled "
        f"| {command} gmm` |",
        f"| A CPU, 2 threads | {headlines.HEADLINES[3].title}: 2 x 3 | 0.50 (50 ms) | not timed | eager "
        f"| {command} prediction training_step` |",
    ]


def test_gpus_come_first_in_readme(report, tmp_path):
    results.write(report, tmp_path / "a-cpu")
    results.write(
        replace(report, environment=report.environment | {"gpu": "Z", "cuda": "13"}), tmp_path / "z-gpu"
    )
    reports = pages.committed_reports(tmp_path)
    assert [folder.name for folder in reports] == ["z-gpu", "a-cpu"]
    rows = headlines.table(reports).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| Z", "| A CPU, 2 threads"]
    assert "`python -m benchmarks --device cuda --operators gmm`" in rows[0]


def test_the_chart_is_a_picture_that_knows_its_figures(report, make_result, tmp_path):
    reports = {tmp_path: report}
    overview.draw(reports, tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as chart:
        assert chart.info[overview.FINGERPRINT] == overview.fingerprint(reports)
        colours = {colour for _, colour in chart.convert("RGB").getcolors(1 << 24)}
        assert (0xD5, 0x5E, 0x00) in colours
    slower = replace(report, results=[*report.results, make_result(1.0, regime="warm")])
    assert overview.fingerprint({tmp_path: slower}) != overview.fingerprint(reports)


def test_writing_twice_changes_nothing_and_writing_other_results_does(report, tmp_path):
    text = written(report, tmp_path)
    section = full_tables.sections(pages.committed_reports(tmp_path))
    assert pages.updated(text, section, "a page") == text
    slower = [replace(result, fraction_of_limit=0.01) for result in report.results]
    assert written(replace(report, results=slower), tmp_path) != text


def test_local_results_stay_out_of_the_pages(report, tmp_path):
    results.write(report, tmp_path / "local")
    assert not pages.committed_reports(tmp_path)


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match=r"README\.md must hold the markers"):
        pages.updated("no markers", "", "README.md")

"""README.md's figures come from the results that are kept."""

from dataclasses import replace

import pytest

from benchmarks import readme, results
from benchmarks.case import OWN
from benchmarks.readme import END, KEPT, README, START

EMPTY = f"before\n{START}\n{END}\nafter\n"


def test_the_readme_agrees_with_the_kept_results():
    text = README.read_text()
    assert readme.updated(text, KEPT) == text, "run python -m benchmarks.readme"


def test_figures_are_written_between_the_markers(report, tmp_path):
    results.write(report, tmp_path / "a-cpu")
    (tmp_path / "a-cpu" / "ratios-gmm.png").touch()
    text = readme.updated(EMPTY, tmp_path)
    assert text.startswith(f"before\n{START}\n### A CPU\n")
    assert text.endswith(f"{END}\nafter\n")
    # 6 MB: 0.2 ms to read and 0.2 ms to write.
    assert "| gmm, wide head: 2 x 3 | compiled | 3 / 3 | 20 / 40 | 1 MB / 1 MB |" in text
    assert "![ratios of gmm](benchmarks/results/a-cpu/ratios-gmm.png)" in text


def test_images_per_second_have_a_table_of_their_own(report, make_result, tmp_path):
    options = {"operator": "prediction", "case": "small", "images": 8}
    rates = [
        make_result(factor * seconds, provider=provider, regime=regime, **options)
        for regime, factor in (("fresh", 2), ("warm", 1))
        for provider, seconds in ((OWN, 0.05), ("eager", 0.1))
    ]
    results.write(replace(report, results=[*report.results, *rates]), tmp_path / "a-cpu")
    text = readme.updated(EMPTY, tmp_path)
    assert "| images per second | vtadl_ext | eager | memory |\n| --- | --- | --- | --- |\n" in text
    assert "| prediction, small: 2 x 3 | 160 | 80 | warm |\n" in text
    assert "gmm" not in text.partition("images per second")[2].partition("\n\n")[0]
    # A peer was too slow to be timed again.
    results.write(replace(report, results=[*report.results, *rates[:3]]), tmp_path / "a-cpu")
    assert "| prediction, small: 2 x 3 | 80 | 40 | fresh |\n" in readme.updated(EMPTY, tmp_path)


def test_writing_twice_changes_nothing_and_writing_other_results_does(report, tmp_path):
    results.write(report, tmp_path / "a-cpu")
    text = readme.updated(EMPTY, tmp_path)
    assert readme.updated(text, tmp_path) == text
    slower = [replace(result, fraction_of_limit=0.01) for result in report.results]
    results.write(replace(report, results=slower), tmp_path / "a-cpu")
    assert readme.updated(text, tmp_path) != text


def test_local_results_stay_out_of_the_readme(report, tmp_path):
    results.write(report, tmp_path / "local")
    assert readme.updated(EMPTY, tmp_path) == EMPTY


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match=r"README\.md must hold the markers"):
        readme.updated("no markers", KEPT)

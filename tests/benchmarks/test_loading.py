"""The measurement of loading image files."""

import pytest
from PIL import Image

from benchmarks.loading import RATES, measure, rate, write_photographs
from benchmarks.network import TINY, as_key


def test_files_are_photographs_that_differ(tmp_path):
    write_photographs(tmp_path, "png", 32, 3)
    images = [Image.open(path) for path in sorted(tmp_path.iterdir())]
    assert [image.size for image in images] == [(32, 32)] * 3
    assert len({image.tobytes() for image in images}) == 3


def test_each_rate_is_measured(tmp_path):
    write_photographs(tmp_path, "jpg", 32, 6)
    rates = measure(tmp_path, as_key(TINY), workers=0)
    assert len(rates) == len(RATES)
    assert all(value > 0 for value in rates)


def test_a_rate_is_the_better_of_two_passes(monkeypatch):
    clock = iter([0.0, 4.0, 4.0, 6.0])
    monkeypatch.setattr("benchmarks.loading.time.perf_counter", lambda: next(clock))
    assert rate(lambda: ["four", "more"], lambda images: None) == pytest.approx(8 / 2)

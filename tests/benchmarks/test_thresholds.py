"""The benchmark of thresholds judges what a detector states."""

import pytest
import torch

from benchmarks.thresholds import Seen, measure, simulate, table
from vtadl.data import TextureDefects
from vtadl.density import DensitySettings


def test_what_is_seen_holds_or_contradicts_what_is_stated():
    assert Seen(stated=0.1, alarms=3, images=30).holds
    assert not Seen(stated=0.1, alarms=4, images=30).holds
    assert not Seen(stated=0.1, alarms=4, images=30).contradicts
    assert Seen(stated=0.1, alarms=10, images=30).contradicts


def test_a_simulated_bound_holds_in_nine_of_ten_draws():
    assert simulate(torch.randn(4000), draws=300) == pytest.approx(0.9, abs=0.06)


def test_a_set_has_a_row_of_the_table():
    data = TextureDefects("gravel", image_size=32, train_count=14, val_count=2, test_count=16)
    given = {"descriptor": "pixels", "positions": "shared", "components": 3, "min_std": 0.1, "softness": 0.1}
    row = measure(data, DensitySettings(**given), draws=20, splits=2)
    assert row["normal images"] == 24
    assert 0 <= row["images: seen rate"] <= 1
    assert row["images: stated rate"] == pytest.approx(1 - 0.1 ** (1 / 12))  # halves of twelve
    assert len(table({"gravel": row, "again": row}).splitlines()) == 4

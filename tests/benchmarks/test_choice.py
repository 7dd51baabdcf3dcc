"""The validation of the choice of experts: its data sets, its regret and its command."""

import json

import numpy as np
import pytest
import torch

from benchmarks.choice import __main__ as command
from benchmarks.choice.drawn import SUBJECTS, draw_pair, draw_set
from benchmarks.choice.images import DataSet, LabelledImages, dimmed, read
from benchmarks.choice.judge import judge, quality
from benchmarks.choice.procedures import PROCEDURES
from benchmarks.choice.record import Record
from benchmarks.choice.regret import leave_one_out, regret
from benchmarks.choice.sets import Sets
from benchmarks.choice.table import tables
from vtadl.data import TextureDefects
from vtadl.density import DensitySettings
from vtadl.errors import InputError

VISIBLE = 2.5 / 255


@pytest.fixture
def noise():
    """Images of weak noise; a corner of each second test image is bright."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(24, 3, 32, 32, generator=generator)
    label = torch.arange(8) % 2
    mask = torch.zeros(8, 1, 32, 32)
    mask[1::2, :, :16, :16] = 1
    kind = ["good", "bright"] * 4
    test = torch.where(mask > 0, 0.8 + 0.2 * images[16:], images[16:])
    return DataSet(images[:16], LabelledImages(test, label, mask, torch.ones(8, dtype=torch.bool), kind))


def qualities(best, other, /, **procedures):
    """Qualities of two experts, and of procedures that reach as much as the worse one if not given."""
    chosen = {name: [procedures.get(name.split()[0], other)] for name in PROCEDURES}
    return {"first, own": [best], "second, own": [other]} | chosen


@pytest.mark.parametrize("name", SUBJECTS)
def test_drawn_sets_are_determined_by_their_seed(name):
    counts = {"train": 2, "normal": 1, "anomalous": 2}
    data, again, other = (draw_set(name, seed, **counts) for seed in (0, 0, 1))
    assert data.train.shape == (2, 3, 128, 128)
    assert data.test.image.shape == (3, 3, 128, 128)
    assert data.test.mask.shape == (3, 1, 128, 128)
    assert data.test.label.tolist() == [0, 1, 1]
    assert data.test.mask.amax((1, 2, 3)).tolist() == [0, 1, 1]
    assert data.test.kind == ["good", *SUBJECTS[name].flaws[:2]]
    images = torch.cat([data.train, data.test.image])
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images[0] != images[1]).any()
    assert data.train.equal(again.train)
    assert data.test.image.equal(again.test.image)
    assert data.test.mask.equal(again.test.mask)
    assert not data.train.equal(other.train)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, subject in SUBJECTS.items() for kind in subject.flaws]
)
def test_masks_mark_what_a_flaw_changes(name, kind):
    without, image, mask = draw_pair(SUBJECTS[name], kind, [3])
    change = np.abs(image - without).max(2)
    assert change[~mask].max() <= VISIBLE
    assert (change[mask] > VISIBLE).mean() > 0.6  # small gaps between changed pixels are marked, too


@pytest.mark.parametrize(("limits", "expected"), [((), (40, 10)), ((20, 6), (20, 6))])
def test_all_images_are_read_or_the_first_ones(limits, expected):
    module = TextureDefects("brick", image_size=32, train_count=40, test_count=10)
    data = read(module, *limits)
    assert (len(data.train), len(data.test.image)) == expected
    assert len(data.test.kind) == len(data.test.mask) == expected[1]


def test_dimming_changes_the_light_of_test_images_only(noise):
    flat = noise._replace(test=noise.test._replace(image=torch.full_like(noise.test.image, 0.5)))
    changed = dimmed(flat, 0)
    levels = changed.test.image[:, 0, 0, 0]
    torch.testing.assert_close(changed.test.image, levels.view(-1, 1, 1, 1).expand(-1, 3, 32, 32))
    assert levels.min() >= 0.5 * 0.8 - 0.05
    assert levels.max() <= 0.5 * 1.2 + 0.05
    assert levels.std() > 0.01
    assert changed.train is flat.train
    assert changed.test.mask is flat.test.mask


def test_a_bright_corner_is_found_by_experts_and_procedures(noise):
    found = judge(noise, DensitySettings(), 0)
    assert set(PROCEDURES) < set(found)
    assert all(values[0] == 1 and values[1] > 0.9 for values in found.values())


def test_without_masks_the_quality_is_that_of_images(noise):
    unknown = noise.test._replace(mask=torch.zeros_like(noise.test.mask), has_mask=noise.test.label == 0)
    scores = noise.test.image.mean(1)
    assert quality(scores, unknown) == [1.0]
    assert quality(scores, noise.test)[0] == 1
    assert len(quality(scores, noise.test)) == 3


def test_the_regret_of_a_set_is_that_of_the_procedure_that_is_best_on_the_others():
    results = {
        "a": [qualities(0.9, 0.5, one=0.9)],
        "b": [qualities(0.8, 0.4, one=0.8)],
        "c": [qualities(0.7, 0.6, best=0.7), qualities(0.7, 0.6, best=0.9)],
    }
    assert regret(results["c"], "best expert") == pytest.approx(-0.1)
    assert regret(results["c"], "second, own") == pytest.approx(0.1)
    chosen = leave_one_out(results)
    assert chosen["c"] == ("one selection", pytest.approx(0.1))
    assert chosen["a"][0] == "one selection"


def test_tables_show_the_spread_over_seeds_and_the_regret():
    runs = [qualities(0.9, 0.5, one=0.8), qualities(0.7, 0.5, one=0.6)]
    text = tables({"a": runs, "b": [{"third, own": [0.5, 0.6]} | runs[0]]})
    assert "| first, own | 0.800 ± 0.141 | 0.900 |" in text
    assert "| third, own |  | 0.500 / 0.600 |" in text
    assert "| one selection | 0.100 | 0.100 | 0.100 |" in text
    assert "| fixed on the others | one selection | one selection |  |" in text


def test_sets_are_those_at_hand_and_unknown_names_are_refused(tmp_path):
    (tmp_path / "bottle" / "train" / "good").mkdir(parents=True)
    assert {"disc", "brick"} < set(Sets().names())
    assert {"bottle", "digit-3"} < set(Sets(root=tmp_path, mnist=tmp_path).names())
    with pytest.raises(InputError, match="no data set bottle"):
        Sets().load("bottle", 0)


def test_a_repeated_command_judges_only_what_is_missing(monkeypatch, tmp_path, capsys, noise):
    judged = []

    def load(sets, name, seed):
        judged.append((name, seed))
        return noise

    monkeypatch.setattr(Sets, "load", load)
    monkeypatch.setattr(command, "judge", lambda *_: qualities(0.9, 0.5))
    output = tmp_path / "out" / "choice.json"
    for sets, seeds in ((["disc"], 1), (["disc", "pill"], 2)):
        arguments = ["choice", "--sets", *sets, "--seeds", str(seeds), "--output", str(output)]
        monkeypatch.setattr("sys.argv", arguments)
        command.main()
    assert judged == [("disc", 0), ("disc", 1), ("pill", 0), ("pill", 1)]
    assert list(json.loads(output.read_text())["results"]["pill"]) == ["0", "1"]
    assert "| second, own | 0.400 | 0.400 | 0.400 |" in capsys.readouterr().out


def test_results_of_other_settings_are_not_continued(tmp_path):
    Record(tmp_path / "choice.json", {"backbone": None}).add("disc", 0, qualities(0.9, 0.5))
    with pytest.raises(InputError, match="other settings"):
        Record(tmp_path / "choice.json", {"backbone": "other"})

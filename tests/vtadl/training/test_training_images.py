"""Images are recognised by their contents: copies, the split, and changes before a run is resumed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vtadl.cli import main
from vtadl.data import Folder, MVTecAD, check
from vtadl.data.manifest import compare, require_unchanged
from vtadl.errors import InputError

DRAWN = settings(max_examples=25, deadline=None, derandomize=True)


def save(path, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def make(root, count=12):
    for index in range(count):
        save(root / f"train/good/{index:03}.png", index)
    return root


def module(root, **options):
    return MVTecAD(str(root), workers=0, image_size=8, **options)


def parts(root, **options):
    """Returns the training images and the validation images, as bytes."""
    data = module(root, **options)
    data.setup("fit")
    return [{s["image"].numpy().tobytes() for s in part} for part in (data.train_set, data.val_set)]


def copy_exactly(path, name):
    shutil.copy(path, path.with_name(name))


def copy_in_another_format(path, name):
    Image.open(path).save(path.with_name(name).with_suffix(".bmp"))


def copy_with_other_compression(path, name):
    Image.open(path).save(path.with_name(name), compress_level=1)


def copy_with_opaque_alpha(path, name):
    Image.open(path).convert("RGBA").save(path.with_name(name))


COPY = [copy_exactly, copy_in_another_format, copy_with_other_compression, copy_with_opaque_alpha]


@DRAWN
@given(
    copies=st.lists(st.tuples(st.integers(0, 11), st.sampled_from(COPY)), min_size=1, max_size=20),
    seed=st.integers(0, 9),
    fraction=st.floats(0.05, 0.5),
)
def test_copies_count_as_one_image(tmp_path_factory, copies, seed, fraction):
    root = make(tmp_path_factory.mktemp("copies"))
    expected = parts(root, seed=seed, val_fraction=fraction)
    for number, (index, copy) in enumerate(copies):
        copy(root / f"train/good/{index:03}.png", f"a copy {number}.png")
    train, val = parts(root, seed=seed, val_fraction=fraction)
    assert (len(train), len(val)) == tuple(map(len, expected))
    assert not train & val
    split = module(root, seed=seed, val_fraction=fraction).split()
    assert len(split.copies) == len(copies)
    assert len(split.training) + len(split.validation) == 12
    assert f"{len(copies)} of {12 + len(copies)} normal images are copies" in check(module(root)).problems[0]


def test_training_reports_copies(tmp_path, caplog):
    root = make(tmp_path)
    copy_exactly(root / "train/good/000.png", "more.png")
    with caplog.at_level("INFO", "lightning.pytorch"):
        module(root).setup("fit")
    assert "1 of 13 normal images are copies of others" in caplog.text


@DRAWN
@given(
    seed=st.integers(0, 9),
    removed=st.sets(st.integers(0, 29), max_size=3),
    added=st.integers(0, 3),
    fraction=st.floats(0.05, 0.5),
)
def test_the_split_reassigns_as_few_images_as_possible(tmp_path_factory, seed, removed, added, fraction):
    root = make(tmp_path_factory.mktemp("split"), 30)
    before = parts(root, seed=seed, val_fraction=fraction)
    assert before == parts(root, seed=seed, val_fraction=fraction)
    for index in removed:
        (root / f"train/good/{index:03}.png").unlink()
    for index in range(added):
        save(root / f"train/good/new {index}.png", 100 + index)
    after = parts(root, seed=seed, val_fraction=fraction)
    moved = (before[0] & after[1]) | (before[1] & after[0])
    assert len(moved) <= len(removed) + added


@DRAWN
@given(seed=st.integers(0, 9), names=st.permutations(range(12)))
def test_the_split_does_not_depend_on_names(tmp_path_factory, seed, names):
    root = make(tmp_path_factory.mktemp("names"))
    before = parts(root, seed=seed)
    for old, new in enumerate(names):
        (root / f"train/good/{old:03}.png").rename(root / f"train/good/x{new}.png")
    assert parts(root, seed=seed) == before


def remove(root, path):
    path.unlink()


def change(root, path):
    save(path, 500)


def reencode(root, path):
    Image.open(path).save(path, compress_level=1)


def add(root, path):
    save(root / "train/good/new.png", 600)


def rename(root, path):
    path.rename(path.with_name("renamed.png"))


def move(root, path):
    (root / "train/good/deeper").mkdir(exist_ok=True)
    path.rename(root / "train/good/deeper" / path.name)


def copy(root, path):
    shutil.copy(path, root / "train/good/copy.png")


HARMLESS = [rename, move, copy]
HARMFUL = {remove: "removed", change: "changed", reencode: "changed", add: "added"}


@DRAWN
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from([*HARMLESS, *HARMFUL])),
        max_size=3,
        unique_by=(lambda change: change[0], lambda change: change[1]),
    )
)
def test_changes_of_the_images_of_a_run_are_found(tmp_path_factory, changes):
    root = make(tmp_path_factory.mktemp("changes"))
    before = module(root).manifest()
    for index, act in changes:
        act(root, root / f"train/good/{index:03}.png")
    now = module(root).manifest()
    found = compare(before, now)._asdict()
    counts = {what: len(found[what]) for what in ("removed", "added", "changed")}
    said = [HARMFUL[act] for _, act in changes if act in HARMFUL]
    assert counts == {what: said.count(what) for what in counts}
    if said:
        with pytest.raises(
            InputError, match=f"{said.count(said[0])} {said[0]} .*; restore .* train a new run"
        ):
            require_unchanged(before, now, "run")
    else:
        require_unchanged(before, now, "run")


@pytest.mark.parametrize("options", [{"seed": 1}, {"val_fraction": 0.4}])
def test_a_resumed_run_keeps_its_split(tmp_path, options):
    root = make(tmp_path)
    with pytest.raises(InputError, match=r"would move from training to validation or back, because `seed`"):
        require_unchanged(module(root).manifest(), module(root, **options).manifest(), "run")


def test_images_in_the_validation_folder_are_the_only_validation_images(tmp_path):
    root = make(tmp_path)
    for index in range(3):
        save(root / f"validation/good/{index}.png", 50 + index)
    shutil.copy(root / "train/good/000.png", root / "validation/good/copy.png")
    split = module(root).split()
    assert (len(split.training), len(split.validation), len(split.copies)) == (12, 3, 1)


def test_test_images_are_held_out_of_a_folder_by_content(tmp_path):
    root = make(tmp_path, 20)
    save(root / "bad/0.png", 99)
    copy_exactly(root / "train/good/003.png", "copy.png")

    def tested():
        data = Folder(str(root), "train/good/*", "bad/*", workers=0, image_size=8)
        data.setup("test")
        data.setup("fit")
        test, *others = (
            {sample["image"].numpy().tobytes() for sample in part}
            for part in (data.test_set, data.train_set, data.val_set)
        )
        assert len(test) + sum(map(len, others)) == 21
        assert not test & (others[0] | others[1])
        return test

    before = tested()
    (root / "train/good/copy.png").unlink()
    assert tested() == before


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Copies a run and its data, so that tests may change them."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(trained, folder / "run", ignore=shutil.ignore_patterns("parts"))
    shutil.copytree(trained / "parts", folder / "parts")
    return folder


def test_a_run_lists_its_images_and_is_not_resumed_with_others(runs, capsys):
    run, good = runs / "run", runs / "parts/train/good"
    kept = json.loads((run / "data.json").read_text())["files"]
    assert {entry["path"] for entry in kept} == {f"train/good/{path.name}" for path in good.iterdir()}
    assert sorted(entry["part"] for entry in kept) == ["training"] * 10 + ["validation"] * 2
    place = f"--data.root={runs / 'parts'}"
    (good / "000.png").rename(good / "renamed.png")
    assert main(["fit", "--resume", str(run), place, "--trainer.max_epochs=3"]) == 0

    settings_before = (run / "config.yaml").read_text()
    (good / "003.png").unlink()
    save(good / "new.png", 7)
    assert main(["fit", "--resume", str(run), place, "--trainer.max_epochs=4"]) == 1
    said = capsys.readouterr().err
    assert f"have changed since {run} was trained: 1 removed (train/good/003.png), 1 added" in said
    check_run = ["data", "--data=MVTecAD", place, f"--run={run}"]
    assert main(check_run) == 1
    assert "1 removed (train/good/003.png), 1 added" in " ".join(capsys.readouterr().out.split())
    assert (run / "config.yaml").read_text() == settings_before


def test_a_run_is_tested_after_its_data_have_moved(runs, trained, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings_ = yaml.safe_load((runs / "run/config.yaml").read_text())
    assert Path(settings_["data"]["init_args"]["root"]).is_absolute()
    settings_["data"]["init_args"]["root"] = str(tmp_path / "gone")
    (runs / "run/config.yaml").write_text(yaml.safe_dump(settings_))
    assert main(["test", str(runs / "run")]) == 1
    assert f"there is no folder {tmp_path / 'gone'}; if the data have moved" in capsys.readouterr().err
    assert main(["test", str(runs / "run"), f"--data.root={trained / 'parts'}"]) == 0


def test_relative_paths_in_the_settings_of_a_run_become_absolute(tmp_path, monkeypatch):
    from vtadl.cli.run_folder import make_paths_absolute

    class Settings(dict):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    settings_ = Settings(
        output="run", ckpt_path="run/last.ckpt", data=Settings(init_args=Settings(root="~/parts"))
    )
    (tmp_path / "vit").mkdir()
    settings_["model.density.backbone"] = "vit"
    make_paths_absolute(settings_)
    assert settings_["model.density.backbone"] == str(tmp_path / "vit")
    assert settings_.output == str(tmp_path / "run")
    assert settings_.ckpt_path is None
    assert settings_.data.init_args.root == "/home/me/parts"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
def test_images_of_every_mode_can_be_checked_and_trained_with(tmp_path, mode):
    numbers = np.random.default_rng(0)
    for index in range(4):
        grey = numbers.integers(0, 256, (6, 8), np.uint8)
        image = {
            "I;16": lambda grey=grey: Image.fromarray(grey.astype(np.uint16) * 257),
            "F": lambda grey=grey: Image.fromarray(grey.astype(np.float32) / 255),
        }.get(mode, lambda grey=grey: Image.fromarray(grey).convert(mode))()
        path = tmp_path / f"train/good/{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    data = module(tmp_path)
    assert [problem for problem in check(data).problems if "two values" not in problem] == []
    data.setup("fit")
    assert len(data.train_set) + len(data.val_set) == 4


def test_the_parent_of_a_link_is_the_parent_of_its_target(tmp_path):
    make(tmp_path / "else/parts")
    (tmp_path / "else/deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "else/deep")
    assert module(tmp_path / "link/../parts").manifest().root == str(tmp_path / "else/parts")
    assert module(tmp_path / "else/deep/../parts").manifest().root == str(tmp_path / "else/parts")
    (tmp_path / "same").symlink_to(tmp_path / "else/parts")
    assert module(tmp_path / "same").manifest().root == str(tmp_path / "same")


def test_a_resumed_run_keeps_the_model_of_its_checkpoint(trained, capsys):
    assert main(["fit", "--resume", str(trained), "--model.image_size", "64"]) == 2
    assert "--model.image_size cannot change in a run that is resumed" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_resize_mode(trained, tmp_path, capsys):
    run = str(shutil.copytree(trained, tmp_path / "run"))
    assert main(["fit", "--resume", run, "--trainer.max_epochs", "9", "--data.fit", "crop"]) == 1
    assert "was trained with resize_mode=stretch, but resize_mode is crop now" in capsys.readouterr().err


def test_a_mask_of_a_normal_image_that_marks_pixels_is_named(tmp_path):
    for kind in ("good", "dent"):
        save(tmp_path / f"test/{kind}/000.png", 0)
        mask = tmp_path / f"ground_truth/{kind}/000_mask.png"
        mask.parent.mkdir(parents=True)
        Image.new("L", (8, 6), 255).save(mask)
    data = module(tmp_path)
    data.setup("test")
    samples = {record.kind: index for index, record in enumerate(data.test_set.records)}
    assert data.test_set[samples["dent"]]["mask"].all()
    with pytest.raises(InputError, match=r"000_mask\.png marks pixels of a normal image"):
        data.test_set[samples["good"]]

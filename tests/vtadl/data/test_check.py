import shutil

import numpy as np
import pytest
from PIL import Image

from vtadl.cli import main
from vtadl.data import MNISTDigit, MVTecAD, TextureDefects, check


def problems(root, **options):
    return check(MVTecAD(str(root)), **options).problems


def test_counts_and_sizes_of_files_are_reported(category, save_image):
    save_image(category / "test/good/large.png", mode="L", size=(50, 60))
    report = check(MVTecAD(str(category), val_fraction=0.25))
    assert report.counts == {"training": 9, "validation": 3, "test good": 5, "test hole": 4}
    assert report.masks == {"with": 4}
    assert report.sizes == {"48x40 RGB": 20, "60x50 L": 1}
    assert report.problems == report.notes == []


def test_every_unreadable_file_is_named(category):
    broken = [category / part for part in ("train/good/003.png", "test/hole/001.jpg")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    found = problems(category)
    assert [f"cannot read image {path}" in problem for path, problem in zip(broken, found, strict=True)] == [
        True,
        True,
    ]
    assert problems(category, read=False) == []


def test_empty_masks_and_masks_without_image_or_of_another_size_are_named(category, save_image):
    masks = category / "ground_truth/hole"
    save_image(masks / "009_mask.png")
    save_image(masks / "000_mask.png", size=(10, 10))
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(masks / "001_mask.png")
    (masks / "002_mask.png").write_bytes(b"")
    missing, size, empty, unreadable = problems(category)
    assert "009_mask.png has no image" in missing
    assert "000_mask.png is (10, 10) pixels" in size
    assert "001_mask.png marks no pixel" in empty
    assert "002_mask.png" in unreadable


def test_a_mask_of_a_normal_image_must_be_empty(category, save_image):
    path = category / "ground_truth/good/000_mask.png"
    save_image(path)
    assert problems(category) == [f"mask {path} marks pixels of a normal image"]
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(path)
    assert problems(category) == []


def test_a_test_image_that_is_a_training_image_is_found_by_its_pixels(category):
    Image.open(category / "train/good/005.png").save(category / "test/good/copy.bmp")
    (problem,) = problems(category)
    assert "test/good/copy.bmp is the training image" in problem
    assert "train/good/005.png" in problem


def test_an_image_that_is_both_normal_and_anomalous_is_found(category):
    shutil.copy(category / "test/good/001.png", category / "test/hole/copy.png")
    (problem,) = problems(category)
    assert "test/hole/copy.png (hole) is" in problem


def test_missing_test_images_are_only_a_note(category):
    shutil.rmtree(category / "test")
    report = check(MVTecAD(str(category)))
    assert report.problems == []
    assert "no image in" in report.notes[0]


def test_missing_training_images_are_the_only_problem(category):
    shutil.rmtree(category / "train")
    (problem,) = problems(category)
    assert "no image in" in problem


def test_data_without_image_files_are_counted_too(tmp_path):
    report = check(TextureDefects(image_size=32, train_count=8, val_count=4, test_count=7))
    kinds = {"test blot": 1, "test good": 4, "test patch": 1, "test scratch": 1}
    assert report.counts == {"training": 8, "validation": 4, **kinds}
    (problem,) = check(MNISTDigit(str(tmp_path))).problems
    assert "there is no file" in problem


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_prints_the_counts_and_fails_if_there_are_problems(category, capsys, broken):
    if broken:
        (category / "train/good/000.png").write_bytes(b"")
    assert main(["data", "--data=MVTecAD", f"--data.root={category}", "--check"]) == int(broken)
    printed = capsys.readouterr()
    assert "validation" in printed.out
    assert ("1 problem in" in printed.err) == broken


def test_several_categories_are_counted_apart_and_no_other_folder_is_searched(category, save_image):
    root, save_image.rng = category.parent, np.random.default_rng(1)  # other images than in the category
    shutil.copytree(category, root / "unused")
    for path in shutil.copytree(category, root / "second").rglob("*/good/*"):
        save_image(path)
    report = check(MVTecAD(str(root), ["category", "second"], val_fraction=0.25))
    of_one = {"training": 9, "validation": 3, "test good": 4, "test hole": 4}
    assert report.counts == {
        f"{name} {part}": n for name in ("category", "second") for part, n in of_one.items()
    }
    assert report.problems == report.notes == []


def test_unused_images_and_copies_are_found_in_each_category(category, save_image):
    root, save_image.rng = category.parent, np.random.default_rng(1)
    for path in shutil.copytree(category, root / "second").rglob("*/good/*"):
        save_image(path)
    save_image(root / "second/spare/000.png")
    shutil.copy(category / "train/good/003.png", root / "second/train/good/003.png")
    copies, unused = check(MVTecAD(str(root), ["category", "second"])).problems
    assert "1 of 24 normal images are copies of others" in copies
    assert unused == "images in folders that are not used: 1 (second/spare/000.png)"

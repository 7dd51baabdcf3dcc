"""Every file in a folder of images is used or named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vtadl.cli.find_images import find_images
from vtadl.data import BTAD, Folder, MVTecAD, check
from vtadl.data.formats import SUFFIXES
from vtadl.data.globs import walk_files
from vtadl.data.listing import list_images

DRAWN = settings(max_examples=25, deadline=None, derandomize=True)
GOOD = [f"train/good/{index}.png" for index in range(5)]

# Files that are used, by what they are; the files of the second group are not used, and are named.
USED = {
    "nested": ["train/good/left/1.png"],
    "upper case": ["train/good/A.PNG", "test/dent/B.JPG"],
    "other formats": ["train/good/a.bmp", "train/good/b.tiff", "train/good/c.jp2", "test/good/d.ppm"],
    "kinds in a kind": ["test/dent/deep/1.png", "ground_truth/dent/deep/1_mask.png"],
    "equal names": ["test/dent/000.png", "ground_truth/dent/000.png"],
    "other marks of masks": ["test/dent/7.jpg", "ground_truth/dent/7-GT.png"],
    "whole names": ["test/dent/8.jpg", "ground_truth/dent/8.jpg.png"],
    "masks beside": ["test/hole/1.png", "test/hole/1_mask.png"],
    "several masks": ["test/dent/9.png", *(f"ground_truth/dent/9/{part}.png" for part in range(3))],
    "held out": ["validation/good/1.png", "validation/good/2.png"],
    "explained": ["defects_config.json"],
}
NAMED = {
    "flat tests": ["test/flat.png"],
    "flat masks": ["ground_truth/flat.png"],
    "unknown kinds": ["train/bad/1.png", "validation/bad/1.png"],
    "elsewhere": ["other.png", "more/other.png"],
    "masks without images": ["ground_truth/dent/absent.png"],
    "suffixes": ["train/good/picture.dat", "test/dent/nosuffix"],
    "no images": ["Thumbs.db", "train/good/notes.txt", "test/dent/x.csv"],
    "hidden": ["train/good/.hidden.png", ".ipynb_checkpoints/0.png"],
    "broken links": ["train/good/gone.png", "test/lost"],
    "damaged": ["train/good/damaged.png"],
}


def write(path: Path, rng: np.random.Generator) -> None:
    """Writes an image, a mask or another file, depending on the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (12, 16), np.uint8)
    if path.stem in ("gone", "lost"):
        path.symlink_to(path.parent / "nowhere")
    elif path.stem == "damaged" or path.suffix in (".db", ".txt", ".csv", ".json"):
        path.write_bytes(b"[]")
    elif "ground_truth" in path.parts or "_mask" in path.stem:
        marked = np.zeros((12, 16), bool)
        marked[rng.integers(8) :, 3:9] = True
        Image.fromarray(marked).save(path)
    else:
        format_ = None if path.suffix.lower() in SUFFIXES else "PNG"
        Image.fromarray(pixels).save(path, format_)


def used_files(data):
    """Returns all files that a data module reads."""
    records = data.test_records()[0]
    masks = [record.mask for record in records if record.mask is not None]
    parts = [part for mask in masks for part in (list_images(mask) if mask.is_dir() else [mask])]
    return {*data.split().contents, *(record.path for record in records), *parts}


@DRAWN
@given(chosen=st.sets(st.sampled_from([*USED, *NAMED]), max_size=8))
def test_every_file_is_used_or_named(tmp_path_factory, chosen):
    root = tmp_path_factory.mktemp("layout")
    groups = USED | NAMED
    rng = np.random.default_rng(0)
    for name in {
        *GOOD,
        "test/good/1.png",
        "test/dent/1.png",
        *(n for c in sorted(chosen) for n in groups[c]),
    }:
        write(root / name, rng)
    data = MVTecAD(str(root), workers=0)
    report = check(data)
    said = "\n".join([*report.problems, *report.notes])
    used = {path.relative_to(root).as_posix() for path in used_files(data)}
    for group in chosen:
        for name in groups[group]:
            if group in USED:
                assert name in used or name == "defects_config.json"
                assert name not in said
            else:
                assert name in said
    harmless = {"no images", "hidden", *USED}
    assert bool(report.problems) == bool(chosen - harmless)


@pytest.fixture
def linked(tmp_path, save_image):
    """Makes a folder with linked images; some of the links form cycles."""
    for index in range(6):
        save_image(tmp_path / f"data/train/good/{index}.png")
        save_image(tmp_path / f"store/scratch/{index}.png")
    links = {
        "test/scratch": "store/scratch",
        "train/good/round": "data",
        "train/good/back": "data/train/good",
    }
    for link, target in links.items():
        (tmp_path / "data" / link).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / link).symlink_to(tmp_path / target)
    (tmp_path / "store/scratch/out").symlink_to(tmp_path / "store")
    (tmp_path / "data/self").symlink_to(tmp_path / "data/self")
    return tmp_path / "data"


def test_linked_folders_are_followed_once(linked):
    assert len(list(walk_files(linked))) == 13
    assert len(list_images(linked, "**/*")) == len(find_images([str(linked)]).paths) == 12
    assert len(find_images([str(linked / "**/*.png")]).paths) == 12
    data = MVTecAD(str(linked), workers=0)
    assert len(data.normal_images()) == 6
    assert {record.kind for record in data.test_records()[0]} == {"scratch"}
    folder = Folder(str(linked), "train/**/*", "test/**/*", workers=0)
    assert {record.kind for record in folder.test_records()[0]} == {"good", "scratch"}


def test_a_folder_linked_under_two_names_is_of_both_kinds(category):
    (category / "test/dent").symlink_to(category / "test/hole")
    kinds = [record.kind for record in MVTecAD(str(category)).test_records()[0]]
    assert kinds == ["dent"] * 4 + ["good"] * 4 + ["hole"] * 4


@pytest.mark.parametrize("layout", [MVTecAD, BTAD])
@pytest.mark.parametrize("only", ["normal", "anomalous"])
def test_test_images_may_be_of_one_label(tmp_path, save_image, layout, only):
    kind = layout.normal if only == "normal" else "odd"
    for index in range(4):
        save_image(tmp_path / f"train/{layout.normal}/{index}.png")
        save_image(tmp_path / f"test/{kind}/{index}.png")
    data = layout(str(tmp_path), workers=0, image_size=8)
    data.setup("test")
    assert [int(sample["label"]) for sample in data.test_set] == [int(only == "anomalous")] * 4


def test_test_images_may_be_normal_alone_in_any_layout(tmp_path, save_image):
    for index in range(4):
        save_image(tmp_path / f"fine/{index}.png")
        save_image(tmp_path / f"later/{index}.png")
    data = Folder(str(tmp_path), normal="fine", test_normal="later", workers=0)
    assert [record.label for record in data.test_records()[0]] == [0] * 4
    assert check(data).problems == []


def test_normal_images_with_names_of_anomalous_images_are_named(category, capsys, caplog):
    data = Folder(str(category), workers=0, image_size=8)
    problems = " ".join(check(data).problems)
    assert "12 of the images that `normal` matches have names of anomalous images or masks" in problems
    assert "ground_truth/hole/000_mask.png" in problems
    with caplog.at_level("INFO", "lightning.pytorch"):
        data.setup("fit")
    assert "have names of anomalous images or masks" in caplog.text


def test_masks_among_normal_images_are_found_by_their_two_values(category):
    for path in sorted((category / "ground_truth/hole").iterdir()):
        shutil.move(path, category / "train/good" / path.name.replace("_mask", "x"))
    (problem,) = [p for p in check(MVTecAD(str(category))).problems if "two values" in p]
    assert problem.startswith("4 of the normal images have at most two values")


@pytest.mark.parametrize("home", [True, False])
def test_relative_roots_and_roots_below_home_are_resolved(category, monkeypatch, home):
    monkeypatch.setenv("HOME", str(category.parent))
    monkeypatch.chdir(category.parent)
    root = "~/category" if home else "category"
    assert len(MVTecAD(root, workers=0).normal_images()) == 12
    assert len(MVTecAD("~" if home else ".", category="category").normal_images()) == 12
    data = Folder(root, "~/category/train/**/*" if home else "train", f"{category}/test/hole/*")
    assert (len(data.normal_images()), len(data.test_records()[0])) == (10, 6)
    assert len(find_images([f"{root}/test/*/*.png"]).paths) == 4


def test_files_of_several_frames_are_noted(category):
    pages = [Image.fromarray(np.full((40, 48), level, np.uint8)) for level in (9, 90)]
    for name in ("train/good/pages.tif", "ground_truth/hole/000_mask.tif"):
        pages[0].save(category / name, save_all=True, append_images=pages[1:])
    (category / "ground_truth/hole/000_mask.png").unlink()
    notes = "; ".join(check(MVTecAD(str(category))).notes)
    assert "only the first frame of files with several is read: " in notes
    assert "pages.tif" in notes
    assert "000_mask.tif" in notes


def test_levels_of_masks_are_explained_by_the_list_of_defects(tmp_path, save_image):
    for index in range(4):
        save_image(tmp_path / f"train/good/{index}.png")
    save_image(tmp_path / "test/logical_anomalies/000.png", square=True)
    mask = np.zeros((40, 48), np.uint8)
    mask[8:24, 8:24] = 247
    (tmp_path / "ground_truth/logical_anomalies/000").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "ground_truth/logical_anomalies/000/000.png")
    (problem,) = check(MVTecAD(str(tmp_path))).problems
    assert "no defects_config.json" in problem
    assert "level 247" in problem
    (tmp_path / "defects_config.json").write_text('[{"defect_name": "missing", "pixel_value": 247}]')
    assert check(MVTecAD(str(tmp_path))).problems == []

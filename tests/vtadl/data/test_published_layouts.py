"""VisA, MVTec AD 2 and MVTec LOCO AD are read in the layouts in which they are published."""

import csv
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vtadl.cli import main
from vtadl.data import Folder, MVTecAD, MVTecAD2, MVTecLOCO, Visa, check
from vtadl.data.inputs import prepare_image
from vtadl.errors import InputError

DRAWN = settings(max_examples=15, deadline=None, derandomize=True)
COUNTS = st.integers(1, 5)


class Writer:
    """Writes random images, and masks of given levels."""

    def __init__(self, root: Path) -> None:
        self.root, self.rng = root, np.random.default_rng(0)

    def image(self, name: str) -> str:
        return self._write(name, self.rng.integers(0, 256, (12, 16), np.uint8))

    def mask(self, name: str, level: int = 255) -> str:
        pixels = np.zeros((12, 16), np.uint8)
        pixels[3:8, 2:9] = level
        return self._write(name, pixels)

    def _write(self, name: str, pixels: np.ndarray) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return name


def write_visa(root: Path, category: str = "candle", train: int = 4, good: int = 2, bad: int = 2) -> Path:
    """Writes a category as published, adds its rows to the table, and returns the table."""
    write, rows = Writer(root), []
    write.rng = np.random.default_rng(sum(category.encode()))
    for index in range(train + good):
        name = write.image(f"{category}/Data/Images/Normal/{index:04d}.JPG")
        rows.append((category, "train" if index < train else "test", "normal", name, ""))
    for index in range(bad):
        name = write.image(f"{category}/Data/Images/Anomaly/{index:03d}.JPG")
        mask = write.mask(f"{category}/Data/Masks/Anomaly/{index:03d}.png", 1 + index)
        rows.append((category, "test", "anomaly", name, mask))
    table = root / "split_csv/1cls.csv"
    table.parent.mkdir(exist_ok=True)
    is_new = not table.exists()
    with table.open("a", newline="") as file:
        csv.writer(file).writerows([*([("object", "split", "label", "image", "mask")] * is_new), *rows])
    return table


def write_ad2(root: Path, good: int = 2, bad: int = 2) -> Path:
    write = Writer(root)
    for index in range(4):
        write.image(f"train/good/{index:03d}_regular.png")
    for index in range(2):
        write.image(f"validation/good/{index:03d}_regular.png")
    for index in range(good):
        write.image(f"test_public/good/{index:03d}_shift_1.png")
    for index in range(bad):
        write.image(f"test_public/bad/{index:03d}_overexposed.png")
        write.mask(f"test_public/ground_truth/bad/{index:03d}_overexposed_mask.png")
    for folder in ("test_private", "test_private_mixed"):
        write.image(f"{folder}/000.png")
    return root


@DRAWN
@given(train=st.integers(3, 6), good=COUNTS, bad=COUNTS, within=st.booleans())
def test_visa_is_read_as_its_table_says(train, good, bad, within):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_visa(root, "candle", train, good, bad)
        write_visa(root, "pcb1")
        data = Visa(str(root / "candle")) if within else Visa(str(root), "candle")
        report = check(data)
        assert report.problems == report.notes == []
        assert report.counts == {
            "training": train - 2,
            "validation": 2,
            "test anomaly": bad,
            "test good": good,
        }
        assert report.masks == {"with": bad}
        records, _ = data.test_records()
        assert all(record.mask.stem == record.path.stem for record in records if record.label)
        several = check(Visa(str(root), ["candle", "pcb1"]))
        assert several.counts["pcb1 test anomaly"] == 2
        assert several.problems == []


def test_visa_reorganised_like_mvtec_ad_is_read(category):
    report = check(Visa(str(category.parent), "category", val_fraction=0.25))
    assert report.counts == {"training": 9, "validation": 3, "test good": 4, "test hole": 4}
    assert report.problems == []


def test_errors_of_the_visa_table_name_the_table_and_what_is_wrong(tmp_path):
    table = write_visa(tmp_path)
    published = table.read_text()
    for change, message in (
        (("object,split", "object,part"), "no column split"),
        (("test,anomaly", "train,anomaly"), "would train with the anomalous image"),
        (("train,normal", "both,normal"), "the split both; expected train or test"),
        (("train,normal", "train,fine"), "the label fine; expected normal or anomaly"),
        (("Normal/0001", "Normal/9999"), "9999.JPG, which does not exist"),
    ):
        table.write_text(published.replace(*change))
        with pytest.raises(InputError, match=rf"1cls\.csv .*{message}"):
            Visa(str(tmp_path), "candle").normal_images()
    table.write_text(published)
    (tmp_path / "pcb1").mkdir()
    with pytest.raises(InputError, match=r"1cls\.csv lists no image of the category pcb1"):
        Visa(str(tmp_path), "pcb1").normal_images()
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read the table .*1cls\.csv"):
        Visa(str(tmp_path), "candle").normal_images()
    table.unlink()
    with pytest.raises(InputError, match=r"no image in .*; expected split_csv/1cls\.csv"):
        Visa(str(tmp_path), "candle").normal_images()


@DRAWN
@given(good=COUNTS, bad=COUNTS)
def test_mvtec_ad_2_is_tested_with_its_public_images(good, bad):
    with tempfile.TemporaryDirectory() as folder:
        data = MVTecAD2(str(write_ad2(Path(folder) / "can", good, bad).parent), "can")
        report = check(data)
        assert report.counts == {"training": 4, "validation": 2, "test bad": bad, "test good": good}
        assert report.masks == {"with": bad}
        assert report.problems == []
        (note,) = report.notes
        assert note.startswith("images without labels, which `vtadl predict` can score: 2 (test_private/000")
        assert all(record.mask.is_file() for record in data.test_records()[0] if record.label)


@pytest.mark.parametrize("module", [MVTecAD2, Visa, MVTecLOCO])
def test_a_missing_folder_is_named_with_the_layout(module, tmp_path):
    with pytest.raises(InputError, match=r"no folder .*nowhere; expected .*CC BY"):
        module(str(tmp_path / "nowhere")).setup("fit")


def test_masks_of_mvtec_loco_ad_are_folders_of_several_levels(tmp_path):
    write = Writer(tmp_path)
    for index in range(4):
        write.image(f"train/good/{index:03d}.png")
        write.image(f"validation/good/{index:03d}.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        write.image(f"test/{kind}/000.png")
        for part, level in enumerate((247, 255)):
            write.mask(f"ground_truth/{kind}/000/{part:03d}.png", level)
    (tmp_path / "defects_config.json").write_text('[{"defect_name": "missing", "pixel_value": 247}]')
    data = MVTecLOCO(str(tmp_path), image_size=(12, 16), workers=0)
    report = check(data)
    assert report.counts == {
        "training": 4,
        "validation": 4,
        "test logical_anomalies": 1,
        "test structural_anomalies": 1,
    }
    assert report.problems == report.notes == []
    data.setup("test")
    assert [int(sample["mask"].sum()) for sample in data.test_set] == [35, 35]


@DRAWN
@given(copies=st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True), held_out=st.booleans())
def test_fit_and_check_name_test_images_that_are_copies_of_training_images(make_parts, copies, held_out):
    with tempfile.TemporaryDirectory() as folder:
        root = make_parts(Path(folder))
        kind = "good" if held_out else "hole"
        for index in copies:
            shutil.copy(root / f"train/good/{index:03d}.png", root / f"test/{kind}/copy{index}.png")
        problems = [problem for problem in check(MVTecAD(folder)).problems if "is the training" in problem]
        assert len(problems) == len(copies)
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr("vtadl.data.file_module.rank_zero_info", said.append)
            MVTecAD(folder, image_size=8, workers=0).setup("fit")
        (sentence,) = said
        tested = 8 + len(copies)
        assert sentence.startswith(f"{len(copies)} of {tested} test images are copies of normal images")
        assert f"test/{kind}/copy{sorted(copies, key=str)[0]}.png of " in sentence


def test_folder_notices_the_layout_of_mvtec_ad_without_reading_images(category, capsys):
    assert main(["data", "--data=Folder", f"--data.root={category}"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "12 of the images that `normal` matches have names of anomalous images or masks" in printed
    assert "or use `--data MVTecAD`, whose layout this is" in printed
    assert check(Folder(str(category), "train", "test/hole", "test/good", "ground_truth/hole")).problems == []


def test_a_home_that_does_not_exist_is_a_missing_folder():
    with pytest.raises(InputError, match=r"no folder .*~nobody-of-this-name/parts"):
        MVTecAD("~nobody-of-this-name/parts").setup("fit")


def test_the_pixels_of_visa_masks_are_marked_whatever_their_level(tmp_path):
    write_visa(tmp_path, bad=5)
    data = Visa(str(tmp_path), "candle", image_size=(12, 16), workers=0)
    data.setup("test")
    assert [int(sample["mask"].sum()) for sample in data.test_set if sample["label"]] == [35] * 5


def test_a_module_with_a_relative_root_survives_a_change_of_the_working_directory(category, monkeypatch):
    monkeypatch.chdir(category.parent)
    data = MVTecAD("category", image_size=8, workers=0)
    monkeypatch.chdir("/")
    data.setup("fit")
    data.setup("test")
    assert all(os.path.isabs(data.test_set[index]["name"]) for index in range(8))
    assert os.path.isabs(data.manifest().root)


@DRAWN
@given(orientation=st.integers(1, 8))
def test_orientation_is_the_same_for_a_file_and_for_an_image_in_memory(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turned.png"
        Image.fromarray(pixels).save(path, exif=exif)
        from_file = prepare_image(path, (8, 8))
        with Image.open(path) as image:
            in_memory = prepare_image(image, (8, 8))
    assert from_file.size == in_memory.size == ((16, 12) if orientation > 4 else (12, 16))
    assert (from_file.pixels == in_memory.pixels).all()

import csv
import json

import numpy as np
import pytest
from PIL import Image

from vtadl.cli.commands import PARTLY_READ, main
from vtadl.cli.find_images import find_images
from vtadl.detector import Detector
from vtadl.errors import InputError


@pytest.fixture
def predict(trained, tmp_path):
    def run(*images):
        status = main(["predict", "--ckpt", str(trained), *map(str, images), "-o", str(tmp_path / "out")])
        return status, tmp_path / "out"

    return run


def test_a_folder_of_images_becomes_scores_maps_masks_and_overlays(trained, predict):
    status, output = predict(trained / "parts/test")
    assert status == 0
    with (output / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows][::4] == ["good/000.png", "hole/000.jpg"]
    detection = Detector.load(trained, "cpu").predict(trained / "parts/test/hole/000.jpg")
    assert float(rows[4]["score"]) == pytest.approx(detection.score, rel=1e-5)
    saved = Image.open(output / "maps/hole/000.jpg.png")
    assert saved.mode == "I;16"
    assert np.abs(np.asarray(saved) / 65535 - detection.normalised_map).max() < 1e-4
    assert np.array_equal(np.asarray(Image.open(output / "masks/hole/000.jpg.png")), detection.mask)
    assert Image.open(output / "overlays/hole/000.jpg.png").size == (48, 40)


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_scored(trained, predict, tmp_path, capsys):
    broken = tmp_path / "in/broken.png"
    broken.parent.mkdir()
    broken.write_bytes((trained / "parts/test/good/000.png").read_bytes()[:100])
    (tmp_path / "in/whole.png").write_bytes((trained / "parts/test/good/001.png").read_bytes())
    status, output = predict(tmp_path / "in")
    assert status == PARTLY_READ
    assert f"cannot read image {broken}" in capsys.readouterr().err
    report = json.loads((output / "scores.json").read_text())
    assert [row["image"] for row in report["images"]] == ["whole.png"]
    assert [entry["image"] for entry in report["unreadable"]] == ["broken.png"]
    assert report["thresholds"]["image"]["count"] == 2


def test_it_is_an_error_if_no_image_can_be_read(predict, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    status, output = predict(tmp_path / "broken.png")
    assert status == 1
    assert "none of the images could be read" in capsys.readouterr().err
    assert len(json.loads((output / "scores.json").read_text())["unreadable"]) == 1


def test_grey_images_of_sixteen_bits_are_scored_and_overlaid(predict, tmp_path):
    pixels = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    status, output = predict(tmp_path / "deep.png")
    assert status == 0
    with Image.open(output / "overlays/deep.png.png") as overlay:
        assert np.asarray(overlay)[-1].mean() > np.asarray(overlay)[0].mean()


def test_files_folders_and_patterns_stand_for_images(trained):
    test = trained / "parts/test"
    assert list(find_images([str(test / "good/000.png")]).paths) == ["000.png"]
    assert len(find_images([str(test)]).paths) == 8
    assert list(find_images([str(test / "*/00[01].*")]).paths) == [
        "good/000.png",
        "good/001.png",
        "hole/000.jpg",
        "hole/001.jpg",
    ]
    assert (
        len(find_images([str(test / "good"), str(test / "good/000.png")]).paths) == 4
    )  # no image is found twice
    for nothing in ("nowhere", str(test / "*.png"), str(trained.parent / "none")):
        with pytest.raises(InputError, match="there is no image"):
            find_images([nothing])
    with pytest.raises(InputError, match="no images"):
        find_images([])
    with pytest.raises(InputError, match=r"a/\*\*b is not a valid pattern"):
        find_images(["a/**b"])


@pytest.fixture
def scored(predict, tmp_path, save_image):
    """Makes a folder with two images and their predictions, and another folder of predictions."""
    for index in range(2):
        save_image(tmp_path / f"out/in/{index}.png")  # the images are in the output folder
    assert predict(tmp_path / "out/in")[0] == 0
    return tmp_path / "out"


def test_predictions_are_never_taken_for_images(trained, scored, tmp_path, capsys, monkeypatch):
    expected = ["0.png", "1.png"]
    (scored / "scores.csv").unlink()
    (scored / "in/older").mkdir()
    for name in ("maps", "masks", "overlays", "scores.json"):
        (scored / name).rename(scored / "in/older" / name)
    monkeypatch.chdir(scored / "in")
    for arguments in ([str(scored)], ["."], ["**/*.png"], [*map(str, scored.rglob("*.png"))]):
        assert sorted(path.name for path in find_images(arguments).paths.values()) == expected
    with pytest.raises(
        InputError, match="there is no image older; left out are 7 files that `vtadl predict`"
    ):
        find_images(["older"])
    capsys.readouterr()
    for output in ("older", "another", "another"):
        assert main(["predict", "--ckpt", str(trained), ".", "-o", output]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("2 images")
        assert "files that `vtadl predict` wrote" in printed.err


def test_predictions_of_an_interrupted_run_are_recognised_too(predict, tmp_path, save_image, monkeypatch):
    save_image(tmp_path / "out/0.png")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vtadl.cli.prediction_files.render_overlay", interrupt)
    predict(tmp_path / "out/0.png")
    save_image(tmp_path / "out/maps/0.png.png")  # the interrupted run wrote this file
    assert list(find_images([str(tmp_path / "out")]).paths) == ["0.png"]


def test_other_images_beside_predictions_are_scored(scored, save_image):
    save_image(scored / "masks/mine.png")
    assert sorted(find_images([str(scored)]).paths) == ["in/0.png", "in/1.png", "masks/mine.png"]


def test_other_files_in_a_folder_are_named(predict, tmp_path, save_image, capsys):
    save_image(tmp_path / "in/0.png")
    (tmp_path / "in/notes.txt").write_text("")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere")
    status, _ = predict(tmp_path / "in")
    said = capsys.readouterr().err
    assert status == PARTLY_READ
    assert "left out are 1 files that are not images" in said
    assert "notes.txt" in said
    assert f"cannot read image {tmp_path / 'in/gone.png'}" in said


def test_links_to_images_keep_their_names(tmp_path, save_image):
    elsewhere = save_image(tmp_path / "elsewhere/part.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a.png").symlink_to(elsewhere)
    assert list(find_images([str(tmp_path / "links")]).paths) == ["a.png"]

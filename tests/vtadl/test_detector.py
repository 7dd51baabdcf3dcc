import copy
import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import vtadl
from vtadl.detector import Detector
from vtadl.errors import InputError
from vtadl.images.pixels import crop_slices
from vtadl.lightning_module import AnomalyDetector
from vtadl.settings import GROUPS


@pytest.fixture(scope="module")
def detector(trained):
    return vtadl.Detector.load(trained, device="cpu")


@pytest.fixture
def path(trained):
    return trained / "parts/test/hole/000.jpg"


def test_an_image_has_a_score_a_label_and_a_map_of_its_size(detector, path):
    detection = detector.predict(path)
    assert detection.label == ("anomalous" if detection.normalised_score > 0.5 else "normal")
    assert detection.map.shape == detection.normalised_map.shape == detection.mask.shape == (40, 48)
    assert detection.mask.dtype == bool
    assert np.array_equal(detection.mask, detection.normalised_map > 0.5)


@pytest.mark.parametrize("form", [str, Image.open, lambda path: np.asarray(Image.open(path))])
def test_every_form_of_an_image_has_the_same_score(detector, path, form):
    assert detector.predict(form(path)).score == detector.predict(path).score


def test_tensors_and_floats_have_the_score_of_bytes(detector):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)  # is not resized
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = detector.predict(image).score
    for other in (tensor, tensor / 255, image / 255):
        assert detector.predict(other).score == pytest.approx(expected, rel=1e-5)


def test_grey_and_transparent_images_are_taken(detector):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    assert detector.predict(image).score == detector.predict(image[..., :3]).score
    grey = image[..., 0]
    expected = detector.predict(np.repeat(grey[..., None], 3, axis=2)).score
    for other in (grey, grey[..., None], torch.from_numpy(grey)[None]):
        assert detector.predict(other).score == pytest.approx(expected, rel=1e-5)


def test_several_images_have_what_each_has_alone(detector, path, trained):
    images = [path, np.zeros((20, 30), dtype=np.uint8), torch.rand(3, 50, 60)]
    detections = detector.predict(images, batch_size=2)
    assert [detection.map.shape for detection in detections] == [(40, 48), (20, 30), (50, 60)]
    assert detections[0].score == pytest.approx(detector.predict(path).score, rel=1e-5)
    assert len(detector.predict(torch.rand(5, 3, 32, 32))) == 5
    assert len(detector.predict(np.zeros((4, 32, 32, 3), dtype=np.uint8))) == 4
    assert detector.predict([]) == []


def test_batches_have_images(detector):
    with pytest.raises(InputError, match="batch_size"):
        detector.predict(torch.rand(3, 32, 32), batch_size=0)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.rand(2, 32, 32), r"the shape \[2, 32, 32\]"),
        (torch.rand(3, 32, 32) * 255, r"must lie in \[0, 1\], but this goes from"),
        (torch.full((3, 32, 32), torch.nan), r"must lie in \[0, 1\]"),
        (torch.zeros(3, 32, 32, dtype=torch.int64), "torch.int64"),
        (3.5, "but this is a float"),
        (np.array([["a"]]), "but this holds <U1"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"the shape \[3, 0, 4\]"),
        (torch.rand(3, 0, 4), r"the shape \[3, 0, 4\]"),
        ("none.png", r"none\.png"),
    ],
)
def test_what_is_no_image_is_refused(detector, image, sentence):
    with pytest.raises(InputError, match=sentence):
        detector.predict(image)


def test_an_untrained_module_or_an_unknown_device_is_refused(detector, tiny, trained):
    with pytest.raises(InputError, match="no thresholds"):
        Detector(AnomalyDetector.from_settings(**tiny))
    with pytest.raises(InputError, match="abacus"):
        Detector.load(trained, device="abacus")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt"):
        Detector.load(tmp_path / "evil.ckpt")


def test_a_detector_of_cropped_images_sees_the_middle_alone(trained, path):
    cropping = vtadl.Detector.load(trained, device="cpu")
    cropping.module.resize_mode = "crop"
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    detection, middle = cropping.predict(image), cropping.predict(image[:, 16:48])
    assert detection.score == pytest.approx(middle.score, rel=1e-5)
    assert np.allclose(detection.map[:, 16:48], middle.map, rtol=1e-4, atol=1e-4)
    assert not detection.mask[:, :16].any()
    assert not detection.mask[:, 48:].any()


@pytest.mark.parametrize("whole", [(40, 100), (100, 40), (64, 64), (7, 900)])
def test_a_crop_has_the_ratio_of_the_network_and_lies_in_the_middle(whole):
    rows, columns = crop_slices(whole, (64, 32), "crop")
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert height == whole[0] or width == whole[1]
    assert abs(height - 2 * width) <= 2
    assert abs(rows.start - (whole[0] - rows.stop)) <= 1
    assert abs(columns.start - (whole[1] - columns.stop)) <= 1


def test_a_checkpoint_of_another_version_is_named(trained, tmp_path):
    checkpoint = torch.load(trained / "best.ckpt", weights_only=True)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, tmp_path / "old.ckpt")
    with pytest.raises(InputError, match=r"old\.ckpt does not hold a detector that this version can load"):
        Detector.load(tmp_path / "old.ckpt")


def test_a_checkpoint_with_settings_outside_their_groups_is_loaded(trained, tmp_path, path):
    checkpoint = torch.load(trained / "best.ckpt", weights_only=True)
    settings = checkpoint["hyper_parameters"]
    flat = {name: x for name, x in settings.items() if name not in GROUPS}
    for group in GROUPS:
        flat |= settings[group]
    torch.save(checkpoint | {"hyper_parameters": flat}, tmp_path / "old.ckpt")
    old, new = (vtadl.Detector.load(file, "cpu") for file in (tmp_path / "old.ckpt", trained))
    assert old.predict(path).score == new.predict(path).score
    assert old.module.hparams == new.module.hparams


def test_lightning_loads_a_checkpoint_too(trained):
    module = AnomalyDetector.load_from_checkpoint(
        trained / "best.ckpt", map_location="cpu", weights_only=True
    )
    state = vtadl.Detector.load(trained, "cpu").module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_lightning_predicts_as_the_detector_does(detector, path):
    batch = {"image": torch.rand(2, 3, *detector.image_size)}
    scores = detector.module.predict_step(batch, 0)
    expected = [detection.score for detection in detector.predict(batch["image"])]
    assert scores.image.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_detector_is_copied_and_sent_to_other_processes(detector, path):
    expected = detector.predict(path).score
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector)), sent_by_torch(detector)):
        assert other.predict(path).score == expected
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as workers:
        assert workers.submit(detector.predict, str(path)).result().score == expected


def sent_by_torch(detector):
    file = io.BytesIO()
    torch.save(detector, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "options", [{}, {"terms": ["nll", "mse"]}, {"likelihood": "paper"}, {"equal_norm": True}]
)
def test_every_part_of_a_detector_can_be_pickled(tiny, options):
    for module in AnomalyDetector.from_settings(**tiny, **options).modules():
        assert type(pickle.loads(pickle.dumps(module))) is type(module)


def test_a_copy_of_a_scorer_notes_what_it_loads(tiny):
    scorer = copy.deepcopy(AnomalyDetector.from_settings(**tiny, terms=["nll"]).scorer)
    assert not scorer.reconstructs
    scorer.load_state_dict(AnomalyDetector.from_settings(**tiny, terms=["mse"]).scorer.state_dict())
    assert scorer.reconstructs

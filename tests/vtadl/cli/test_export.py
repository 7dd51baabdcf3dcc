import numpy as np
import onnxruntime
import pytest
import torch

from vtadl.cli.export import export
from vtadl.detector import Detector
from vtadl.errors import InputError
from vtadl.scoring.thresholds import Decisions

SIZES = [(1, 32, 32), (3, 32, 32), (2, 50, 71), (5, 20, 90)]


@pytest.fixture(scope="module")
def detector(trained):
    return Detector.load(trained, device="cpu")


@pytest.fixture(scope="module")
def run_onnx(trained, tmp_path_factory):
    path = export(str(trained), "onnx", str(tmp_path_factory.mktemp("onnx") / "detector.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(Decisions._fields), {"images": images.numpy()})


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "detector.pt2"
    return torch.export.load(export(str(trained), "torch", str(path)))


def expect_parity(detector, images, outputs):
    detections = detector.predict(images.permute(0, 3, 1, 2))
    for name, output in zip(Decisions._fields, outputs, strict=True):
        expected = np.stack([getattr(detection, name) for detection in detections])
        assert output.shape == expected.shape, name
        if output.dtype == bool:
            assert np.array_equal(output, expected), name
        else:
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_onnx_runtime_decides_like_python(detector, run_onnx, size):
    images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    expect_parity(detector, images, run_onnx(images))


@pytest.mark.parametrize("size", SIZES)
def test_the_exported_program_decides_like_python(detector, exported, size):
    images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    decisions = exported.module()(images)
    assert tuple(decisions) == Decisions._fields
    expect_parity(detector, images, [value.numpy() for value in decisions.values()])


def test_onnx_runtime_takes_other_thresholds(detector, trained, tmp_path):
    path = export(str(trained), "onnx", str(tmp_path / "detector.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["images"]
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    names = ["score", "anomalous", "map", "mask", "normalised_score"]
    score, *_ = session.run(names, {"images": images.numpy()})
    between, peak = (np.array(value, np.float32) for value in (np.sort(score)[1:3].mean(), 1e6))
    given = {"images": images.numpy(), "threshold": between, "pixel_threshold": peak}
    score, anomalous, map_, mask, normalised = session.run(names, given)
    assert anomalous.sum() == 2
    assert np.array_equal(anomalous, score > between)
    assert np.array_equal(anomalous, normalised > 0.5)
    assert not mask.any()
    given["pixel_threshold"] = np.array(np.median(map_), np.float32)
    assert session.run(["mask"], given)[0].mean() == pytest.approx(0.5, abs=0.01)


def test_the_exported_program_has_thresholds_that_can_be_set(detector, trained, tmp_path):
    path = export(str(trained), "torch", str(tmp_path / "detector.pt2"))
    module = torch.export.load(path).module()
    assert module.threshold == detector.module.calibration.image.value
    assert module.pixel_threshold == detector.module.calibration.pixel.value
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    between = module(images)["score"].sort().values[1:3].mean()
    module.threshold.fill_(between)
    decisions = module(images)
    assert decisions["anomalous"].sum() == 2
    assert torch.equal(decisions["anomalous"], decisions["score"] > between)


def test_the_exported_program_needs_no_operator_of_ours(exported):
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert called
    assert not [name for name in called if "vtadl" in name]


def test_exported_detectors_keep_their_experts_and_backgrounds(with_several_experts):
    folder = with_several_experts
    state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
    backgrounds = [value for name, value in state.items() if name.endswith(".background_mu")]
    assert len(backgrounds) > 1
    assert all(background.numel() for background in backgrounds)
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    detector = Detector.load(folder, device="cpu")
    session = onnxruntime.InferenceSession(export(str(folder), "onnx", str(folder / "detector.onnx")))
    expect_parity(detector, images, session.run(list(Decisions._fields), {"images": images.numpy()}))
    program = torch.export.load(export(str(folder), "torch", str(folder / "detector.pt2"))).module()
    expect_parity(detector, images, [value.numpy() for value in program(images).values()])


def test_exported_detectors_contain_their_backbone(trained_with_backbone):
    folder = trained_with_backbone
    images = torch.randint(0, 256, (3, 40, 32, 3), dtype=torch.uint8)
    detector = Detector.load(folder, device="cpu")
    session = onnxruntime.InferenceSession(export(str(folder), "onnx", str(folder / "detector.onnx")))
    expect_parity(detector, images, session.run(list(Decisions._fields), {"images": images.numpy()}))
    program = torch.export.load(export(str(folder), "torch", str(folder / "detector.pt2"))).module()
    expect_parity(detector, images, [value.numpy() for value in program(images).values()])


@pytest.mark.parametrize(("mode", "format", "size"), [("crop", "torch", None), ("tiles", "onnx", (40, 90))])
def test_a_program_resizes_images_as_training_did(trained, tmp_path, capsys, mode, format, size):
    checkpoint = torch.load(trained / "best.ckpt", weights_only=True) | {"resize_mode": mode}
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    path = export(str(tmp_path / "changed.ckpt"), format, str(tmp_path / "program"), size)
    assert f"the detector was trained with resize_mode={mode}" in capsys.readouterr().out
    detector = Detector.load(tmp_path / "changed.ckpt", device="cpu")
    for shape in [(2, *size)] if size else SIZES:
        images = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)
        if format == "onnx":
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            outputs = session.run(list(Decisions._fields), {"images": images.numpy()})
        else:
            decisions = torch.export.load(path).module()(images)
            outputs = [value.numpy() for value in decisions.values()]
        expect_parity(detector, images, outputs)


def test_a_program_with_tiles_is_exported_for_one_size(trained, tmp_path):
    checkpoint = torch.load(trained / "best.ckpt", weights_only=True) | {"resize_mode": "tiles"}
    torch.save(checkpoint, tmp_path / "tiles.ckpt")
    with pytest.raises(
        InputError, match=r"=tiles can only be exported for images of one size: .*--image_size"
    ):
        export(str(tmp_path / "tiles.ckpt"))
    with pytest.raises(InputError, match="image_size"):
        export(str(tmp_path / "tiles.ckpt"), image_size=(0, 5))

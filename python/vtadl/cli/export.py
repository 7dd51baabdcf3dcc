"""`vtadl export`: the detector as one program, from the pixels of an image to the decision."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vtadl.common.files import atomic_path
from vtadl.common.precision import full_precision
from vtadl.common.ranges import require_positive
from vtadl.detector import Detector
from vtadl.errors import InputError
from vtadl.images.pixels import crop_slices, resize, resized_size, restore_map_size
from vtadl.images.tiles import Size
from vtadl.lightning_module import AnomalyDetector
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Calibration, Decisions, decide
from vtadl_ext import use_reference

Format = Literal["onnx", "torch"]
_THRESHOLDS = ("threshold", "pixel_threshold")  # inputs of a program that have defaults


class Program(nn.Module):
    """Maps RGB images of any size, as bytes [B, H, W, 3], to the fields of Decisions by name."""

    def __init__(self, module: AnomalyDetector, category: str = "") -> None:
        super().__init__()
        self.module = module
        self.category = category
        self.fill_value = self.calibration.pixel.median.item()  # of pixels that are cropped off
        self.threshold: Tensor
        self.pixel_threshold: Tensor
        self.register_buffer("threshold", self.calibration.image.value.clone())
        self.register_buffer("pixel_threshold", self.calibration.pixel.value.clone())

    @property
    def calibration(self) -> Calibration:
        return self.module.calibration.of(self.category)

    def forward(
        self, images: Tensor, threshold: Tensor | None = None, pixel_threshold: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Computes what `Detector.predict` computes, by the same functions.

        Thresholds that are not given are those of the buffers of the same names.
        """
        threshold = self.threshold if threshold is None else threshold
        pixel_threshold = self.pixel_threshold if pixel_threshold is None else pixel_threshold
        mode, network_size = self.module.resize_mode, self.module.network.image_size
        size = (images.shape[1], images.shape[2])
        rows, columns = crop_slices(size, network_size, mode)
        # Slices with symbolic bounds cannot be traced.
        images = images.index_select(1, _range(rows)).index_select(2, _range(columns))
        planes = images.permute(0, 3, 1, 2).float()
        pixels = resize(planes, resized_size(size, network_size, mode)) / 255
        score = self.module.score_tiles if mode == "tiles" else self.module
        scores = score(pixels)
        maps = restore_map_size(scores.map, size, mode, self.fill_value)
        decisions = decide(self.calibration, Scores(scores.image, maps), size, threshold, pixel_threshold)
        return decisions._asdict()


@full_precision()
def export(
    ckpt: str,
    format: Format = "onnx",
    output: str | None = None,
    image_size: tuple[int, int] | None = None,
    category: str = "",
) -> Path:
    """Exports a trained detector as a program that needs neither vtadl nor vtadl_ext.

    The input of the program is `images`: upright RGB images as bytes [B, H, W, 3], with any B, H and W. The
    program resizes them as `vtadl predict` does. An ONNX program also takes `threshold` and
    `pixel_threshold`, single floats, in place of the thresholds of the checkpoint; the module of an exported
    PyTorch program has them as buffers of these names. The outputs are score [B], normalised_score [B],
    anomalous [B], map [B, H, W], normalised_map [B, H, W] and mask [B, H, W]. Run it with onnxruntime, or as
    torch.export.load(path).module()(images).

    Args:
        ckpt: Checkpoint of a trained detector, or the folder of a run, whose best checkpoint is used.
        format: onnx, for ONNX Runtime and other runtimes; or torch, for torch.export.load.
        output: File to write, also given by `-o`; by default detector.onnx or detector.pt2.
        image_size: Height and width of the images, such as '[480, 640]', if all have the same size. A
            detector that was trained with resize_mode=tiles can only be exported for one size.
        category: Category whose thresholds the program has, if the detector has several.

    Returns:
        The path of the file.

    Raises:
        InputError: If there is no detector or no such category, or it was trained with tiles and no size is
            given.
    """
    detector = Detector.load(ckpt, "cpu")
    detector.require_category(category)
    program = Program(detector.module, category).eval()
    mode = program.module.resize_mode
    if mode == "tiles" and image_size is None:
        raise InputError(
            "a detector that was trained with resize_mode=tiles can only be exported for images of one size: "
            "give the size by --image_size '[HEIGHT, WIDTH]'"
        )
    if image_size is not None:
        require_positive(image_size=min(image_size))
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    path = Path(output or f"detector.{'onnx' if format == 'onnx' else 'pt2'}").expanduser()
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        {"onnx": _save_onnx, "torch": _save_torch}[format](program, temporary, image_size)
    print(f"{format}: {path}")
    if mode != "stretch":
        print(f"the detector was trained with resize_mode={mode}, and the program resizes images likewise")
    return path


def _example(program: Program, size: Size | None) -> tuple[tuple[Tensor], dict[str, Any]]:
    """Makes the images that the program is traced with, and their dynamic dimensions."""
    height, width = program.module.network.image_size
    dynamic = {0: torch.export.Dim("batch", min=1)}
    if size is None:
        dynamic |= {1: torch.export.Dim("height", min=2), 2: torch.export.Dim("width", min=2)}
        size = (height + 8, width + 16)  # a size that needs resizing
    return (torch.zeros(2, *size, 3, dtype=torch.uint8),), {"images": dynamic}


def _range(bounds: slice) -> Tensor:
    return torch.arange(bounds.start, bounds.stop)


def _save_torch(program: Program, path: Path, size: Size | None) -> None:
    example, shapes = _example(program, size)
    with use_reference(), torch.no_grad():
        exported = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
    torch.export.save(exported, path)


def _save_onnx(program: Program, path: Path, size: Size | None) -> None:
    import onnx
    import onnxscript  # noqa: F401  # fails here if it is missing, before the model is traced

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    (images,), shapes = _example(program, size)
    thresholds = (program.threshold, program.pixel_threshold)
    with torch.no_grad():
        exported = torch.onnx.export(
            program,
            (images, *thresholds),
            dynamic_shapes={**shapes, **dict.fromkeys(_THRESHOLDS)},
            dynamo=True,
            input_names=["images", *_THRESHOLDS],
            output_names=list(Decisions._fields),
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for name, value in zip(_THRESHOLDS, thresholds, strict=True):  # an initialiser is the default of an input
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    summary = json.dumps(program.calibration.summary())
    onnx.helper.set_model_props(model, {"thresholds": summary, "resize_mode": program.module.resize_mode})
    onnx.checker.check_model(model)
    onnx.save(model, path)

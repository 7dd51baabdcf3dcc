"""`vtadl export`: the detector as one program, from the bytes of an image to the decision."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vtadl.checkpoints import load_detector
from vtadl.common.files import atomic_path
from vtadl.common.precision import full_precision
from vtadl.common.ranges import require_positive
from vtadl.errors import InputError
from vtadl.images.pixels import lay_over, resize, resized_size, seen
from vtadl.images.tiles import Size
from vtadl.lightning_module import AnomalyDetector
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Decisions, decide
from vtadl_ext import use_reference

Format = Literal["onnx", "torch"]


class Program(nn.Module):
    """Images as bytes [B, H, W, 3], RGB and of any size, to the fields of Decisions by name."""

    def __init__(self, module: AnomalyDetector) -> None:
        super().__init__()
        self.module = module
        self.outside = module.calibration.pixel.median.item()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What Detector.predict does with them, and in the same functions."""
        mode, network_size = self.module.resize_mode, self.module.network.image_size
        size = (images.shape[1], images.shape[2])
        rows, columns = seen(size, network_size, mode)
        images = images.index_select(1, _range(rows)).index_select(
            2, _range(columns)
        )  # slices are not traced
        planes = images.permute(0, 3, 1, 2).float()
        pixels = resize(planes, resized_size(size, network_size, mode)) / 255
        score = self.module.score_tiles if mode == "tiles" else self.module
        scores = score(pixels)
        maps = lay_over(scores.map, size, mode, self.outside)
        return decide(self.module.calibration, Scores(scores.image, maps), size)._asdict()


@full_precision()
def export(
    ckpt: str,
    format: Format = "onnx",
    output: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Path:
    """Writes a trained detector as a program that needs neither vtadl nor vtadl_ext.

    The program takes `images`, upright, as bytes [B, H, W, 3] in RGB with any B, H and W, fits them to the
    network as `vtadl predict` does, and gives score [B], normalised_score [B], anomalous [B], map [B, H, W],
    normalised_map [B, H, W] and mask [B, H, W]. It is for torch.export.load(path).module()(images), or for
    onnxruntime.

    Args:
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        format: onnx, for ONNX Runtime and others; or torch, for torch.export.load.
        output: File to write; by default detector.onnx or detector.pt2.
        image_size: Height and width of the images, if they all have the same; a detector that sees its images
            as tiles is only exported for one size.

    Returns:
        The file.

    Raises:
        InputError: If there is no detector, or it sees tiles and no size is given.
    """
    program = Program(load_detector(ckpt)).eval()
    mode = program.module.resize_mode
    if mode == "tiles" and image_size is None:
        raise InputError(
            "a detector that was trained with resize_mode=tiles is exported for images of one size: give it "
            "by --image_size '[HEIGHT, WIDTH]'"
        )
    if image_size is not None:
        require_positive(image_size=min(image_size))
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    path = Path(output or f"detector.{'onnx' if format == 'onnx' else 'pt2'}").expanduser()
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        {"onnx": _save_onnx, "torch": _save_torch}[format](program, temporary, image_size)
    print(f"{format}: {path}")
    if mode != "stretch":
        print(f"the detector was trained with resize_mode={mode}, and the program resizes images likewise")
    return path


def _example(program: Program, size: Size | None) -> tuple[tuple[Tensor], dict[str, Any]]:
    """Images of a size, or unlike the detector's, and which of their dimensions are free."""
    height, width = program.module.network.image_size
    free = {0: torch.export.Dim("batch", min=1)}
    if size is None:
        free |= {1: torch.export.Dim("height", min=2), 2: torch.export.Dim("width", min=2)}
        size = (height + 8, width + 16)
    return (torch.zeros(2, *size, 3, dtype=torch.uint8),), {"images": free}


def _range(part: slice) -> Tensor:
    return torch.arange(part.start, part.stop)


def _save_torch(program: Program, path: Path, size: Size | None) -> None:
    example, shapes = _example(program, size)
    with use_reference(), torch.no_grad():
        exported = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
    torch.export.save(exported, path)


def _save_onnx(program: Program, path: Path, size: Size | None) -> None:
    import onnx
    import onnxscript  # noqa: F401  # PyTorch would only say later that it is missing

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    example, shapes = _example(program, size)
    with torch.no_grad():
        exported = torch.onnx.export(
            program,
            example,
            dynamic_shapes=shapes,
            dynamo=True,
            input_names=["images"],
            output_names=list(Decisions._fields),
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    thresholds = json.dumps(program.module.calibration.summary())
    onnx.helper.set_model_props(model, {"thresholds": thresholds, "resize_mode": program.module.resize_mode})
    onnx.checker.check_model(model)
    onnx.save(model, path)

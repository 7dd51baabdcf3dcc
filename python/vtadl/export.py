"""`vtadl export`: the detector as one program, from the bytes of an image to the decision."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vtadl.calibration import Decisions, decide
from vtadl.checkpoints import load_detector
from vtadl.engine import AnomalyDetector
from vtadl.files import atomic_path
from vtadl.inputs import resize
from vtadl_ext import use_reference

Format = Literal["onnx", "torch"]


class Program(nn.Module):
    """Images as bytes [B, H, W, 3], RGB and of any size, to the fields of Decisions by name."""

    def __init__(self, module: AnomalyDetector) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        size = (images.shape[1], images.shape[2])
        pixels = resize(images.permute(0, 3, 1, 2).float() / 255, self.module.network.image_size)
        return decide(self.module.calibration, self.module(pixels), size)._asdict()


def export(ckpt: str, format: Format = "onnx", output: str | None = None) -> Path:
    """Writes a trained detector as a program that needs neither vtadl nor vtadl_ext.

    The program takes `images`, bytes [B, H, W, 3] in RGB with any B, H and W, stretches them to the network's
    size, and gives score [B], normalised_score [B], anomalous [B], map [B, H, W], normalised_map [B, H, W]
    and mask [B, H, W]. It is for torch.export.load(path).module()(images), or for onnxruntime. Where training
    cropped its images or saw them as tiles (`fit`), do likewise before.

    Args:
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        format: onnx, for ONNX Runtime and others; or torch, for torch.export.load.
        output: File to write; by default detector.onnx or detector.pt2.

    Returns:
        The file.
    """
    program = Program(load_detector(ckpt)).eval()
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    path = Path(output or f"detector.{'onnx' if format == 'onnx' else 'pt2'}")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        {"onnx": _save_onnx, "torch": _save_torch}[format](program, temporary)
    print(f"{format}: {path}")
    if program.module.fit != "stretch":
        print(f"the detector was trained with fit={program.module.fit}: give the program such images")
    return path


def _example(program: Program) -> tuple[tuple[Tensor], dict[str, Any]]:
    """Images unlike the detector's size, and which of their dimensions are free."""
    height, width = program.module.network.image_size
    images = torch.zeros(2, height + 8, width + 16, 3, dtype=torch.uint8)
    free = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("height", min=2),
        2: torch.export.Dim("width", min=2),
    }
    return (images,), {"images": free}


def _save_torch(program: Program, path: Path) -> None:
    example, shapes = _example(program)
    with use_reference(), torch.no_grad():
        exported = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
    torch.export.save(exported, path)


def _save_onnx(program: Program, path: Path) -> None:
    import onnx
    import onnxscript  # noqa: F401  # PyTorch would only say later that it is missing

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    example, shapes = _example(program)
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
    onnx.helper.set_model_props(model, {"thresholds": thresholds, "fit": program.module.fit})
    onnx.checker.check_model(model)
    onnx.save(model, path)

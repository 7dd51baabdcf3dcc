"""Small inputs that several tests share."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  # its logger keeps the stream of its import, which must outlive each test
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from vtadl.cli import main
from vtadl.density import DensitySettings
from vtadl.model import VTADL, NetworkSettings
from vtadl.settings import make_settings

TINY = {
    "image_size": 32,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "mlp_width": 16,
    "bottleneck": 16,
    "decoder_channels": 16,
    "components": 3,
}
SETTLED = {"descriptor": "pixels", "positions": "own", "background": "none", "min_std": 0.1, "softness": 0.03}


@pytest.fixture(scope="session")
def tiny() -> dict[str, int]:
    """Returns sizes of a network that trains in seconds."""
    return dict(TINY)


@pytest.fixture(scope="session")
def settled() -> dict[str, Any]:
    """Returns such sizes, and settings with which nothing has to be chosen, which is fast."""
    return TINY | SETTLED


@pytest.fixture(scope="session")
def gated(settled: dict[str, Any]) -> dict[str, Any]:
    """Returns such sizes and settings of a detector with a gate, which is trained."""
    return settled | {"gated": True}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., VTADL]:
    """Makes the network of plain settings."""

    def make(**settings: Any) -> VTADL:
        groups = make_settings(settings)
        return VTADL(groups.get("network", NetworkSettings()), groups.get("density", DensitySettings()))

    return make


class ImageWriter:
    """Writes random grey levels, with a white square if asked, in the format of the suffix."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(
        self, path: Path, square: bool = False, mode: str = "RGB", size: tuple[int, int] = (40, 48)
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = self.rng.integers(90, 120, size, dtype=np.uint8)
        if square:
            pixels[8:24, 8:24] = 255
        Image.fromarray(pixels).convert(mode).save(path)
        return path


def make_category(root: Path) -> Path:
    save_image = ImageWriter()
    for index in range(12):
        save_image(root / f"train/good/{index:03d}.png")
    for index in range(4):
        save_image(root / f"test/good/{index:03d}.png")
        save_image(root / f"test/hole/{index:03d}.jpg", square=True)
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[8:24, 8:24] = 255
        path = root / f"ground_truth/hole/{index:03d}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Writes random grey levels, with a white square if asked, in the format of the suffix."""
    return ImageWriter()


@pytest.fixture(scope="session")
def make_parts() -> Callable[[Path], Path]:
    """Makes a folder in the layout of MVTec AD: 12 training images, 4 good ones and 4 with a hole."""
    return make_category


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """Returns a folder of one category."""
    return make_category(tmp_path / "category")


def of_model(settings: dict[str, Any]) -> list[str]:
    """Converts settings to command-line options."""
    return [f"--model.{name}={value}" for name, value in settings.items()]


def train(folder: Path, *options: str) -> Path:
    """Trains on a category, which is written to the subfolder `parts`."""
    data = ["--data=MVTecAD", f"--data.root={make_category(folder / 'parts')}", "--data.workers=0"]
    trainer = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", f"--output={folder}"]
    assert main(["fit", *data, *of_model(TINY), *trainer, *options]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run with training, which all test processes share; tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(f"{folder}.lock"):
        return folder if (folder / "last.ckpt").exists() else train(folder, "--model.gated=true")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run without training; tests must not change it."""
    return train(tmp_path_factory.mktemp("untrained"), *of_model(SETTLED))


@pytest.fixture
def trained_with_equal_norm(tmp_path: Path) -> Path:
    """Returns the folder of a run with `equal_norm`."""
    return train(tmp_path, "--model.equal_norm=true", "--model.gated=true", *of_model(SETTLED))


@pytest.fixture
def with_several_experts(tmp_path: Path) -> Path:
    """Returns the folder of a run with several experts, whose scores are relative to a background."""
    chosen = {"descriptor": "null", "positions": "null", "background": "pictures"}
    return train(tmp_path, *of_model(SETTLED | chosen))


@pytest.fixture
def trained_with_backbone(tmp_path: Path) -> Path:
    """Returns the folder of a run with a vision transformer as backbone, whose own folder is gone."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_register_tokens": 2}
    config = transformers.Dinov2WithRegistersConfig(**sizes, image_size=32, patch_size=8)
    transformers.Dinov2WithRegistersModel(config).half().save_pretrained(tmp_path / "model")
    options = {"descriptor": "backbone", "backbone": tmp_path / "model", "backbone_size": 48, "features": 8}
    folder = train(tmp_path / "run", *of_model(SETTLED | options))
    shutil.rmtree(tmp_path / "model")
    return folder


@pytest.fixture
def real_data() -> Path:
    """Returns the folder of published data that VTADL_DATA names; skips the test if it is not set."""
    folder = os.environ.get("VTADL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VTADL_DATA names no folder")
    return Path(folder)

"""The demo's page: figures, loss curves and pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vtadl.files import atomic_path
from vtadl.pictures import image_picture, map_picture, overlay_picture


class Example(NamedTuple):
    """One test image and what the detector makes of it."""

    title: str
    image: Tensor  # [3, H, W]
    mask: Tensor  # [1, H, W]
    map: Tensor  # [1, H, W]


class TextureResult(NamedTuple):
    """All that the page shows of one texture."""

    texture: str
    metrics: dict[str, float]
    losses: dict[str, list[float]]  # by name, one value per epoch
    examples: Sequence[Example]


def write_report(folder: Path, results: Sequence[TextureResult], seconds: float) -> Path:
    """Writes metrics.json, loss.png, one picture per texture and index.html; returns the page's path."""
    figures: dict[str, object] = {result.texture: result.metrics for result in results}
    with atomic_path(folder / "metrics.json") as path:
        path.write_text(json.dumps(figures | {"seconds": round(seconds, 1)}, indent=2) + "\n")
    _save(_loss_figure(results), folder / "loss.png")
    for result in results:
        _save(_example_figure(result.examples), folder / f"{result.texture}.png")
    page = Environment(loader=PackageLoader("vtadl", "templates"), autoescape=True).get_template(
        "report.html"
    )
    with atomic_path(folder / "index.html") as path:
        path.write_text(page.render(results=results, seconds=seconds), encoding="utf-8")
    return folder / "index.html"


def _loss_figure(results: Sequence[TextureResult]) -> Figure:
    figure = Figure(figsize=(4 * len(results), 3), layout="constrained")
    for result, axes in zip(results, figure.subplots(1, len(results), squeeze=False)[0], strict=True):
        for name, values in result.losses.items():
            axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
        axes.set(title=result.texture, xlabel="epoch", ylabel="loss")
        axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _example_figure(examples: Sequence[Example]) -> Figure:
    figure = Figure(figsize=(1.5 * len(examples), 6.4), layout="constrained")
    grid = figure.subplots(4, len(examples), squeeze=False)
    for column, example in zip(grid.T, examples, strict=True):
        pictures = (
            image_picture(example.image),
            image_picture(example.mask.expand(3, -1, -1)),
            map_picture(example.map),
            overlay_picture(example.image, example.map),
        )
        for axes, picture in zip(column, pictures, strict=True):
            _show(axes, picture)
        column[0].set_title(example.title, fontsize=9)
    for axes, label in zip(grid[:, 0], ("image", "mask", "anomaly map", "overlay"), strict=True):
        axes.set_ylabel(label)
    return figure


def _show(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)

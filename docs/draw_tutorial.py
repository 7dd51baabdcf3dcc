"""Draws the pictures of tutorial.md: trains as `vtadl demo` does, and shows what the detector finds.

python docs/draw_tutorial.py
"""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vtadl.data import TextureDefects
from vtadl.demo import train_and_test
from vtadl.plots import histogram_plot
from vtadl.recorder import Example, Record

PICTURES = Path(__file__).parent / "pictures"
EXAMPLES = 5


def draw_normal(data: TextureDefects) -> Figure:
    figure, axes = plt.subplots(1, EXAMPLES, figsize=(7, 1.6))
    for axis, sample in zip(axes, data.train_set, strict=False):
        axis.imshow(sample["image"].permute(1, 2, 0))
        axis.axis("off")
    return figure


def draw_found(examples: Sequence[Example]) -> Figure:
    rows = list(examples[0].pictures)
    figure, axes = plt.subplots(len(rows), len(examples), figsize=(7, 5.8))
    for column, example in enumerate(examples):
        for row, name in enumerate(rows):
            axis = axes[row, column]
            axis.imshow(example.pictures[name], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(name)
        axes[0, column].set_title(f"{example.name.split('/')[-2]}, {example.score:.2f}", fontsize=9)
    return figure


def of_every_kind(record: Record) -> list[Example]:
    """The anomalies that stand out most and least, of each kind some."""
    groups = list(record.examples.values())
    return [*groups[0][:3], *groups[1][: EXAMPLES - 3]]


def main() -> None:
    data = TextureDefects("brick", train_count=256)
    with tempfile.TemporaryDirectory() as folder:
        result = train_and_test(data, 1, Path(folder))
    PICTURES.mkdir(exist_ok=True)
    figures = {"normal": draw_normal(data), "found": draw_found(of_every_kind(result.record))}
    for name, figure in figures.items():
        figure.savefig(PICTURES / f"{name}.png", dpi=100, bbox_inches="tight")
    scores = histogram_plot(result.record.scores, result.record.labels)
    (PICTURES / "scores.svg").write_bytes(base64.b64decode(scores.partition(",")[2]))


if __name__ == "__main__":
    main()

"""Fits detectors and draws the pictures of tutorial.md, detector.md and README.md.

python docs/draw_pictures.py                     fits to gravel as the tutorial does, then runs the demo
python docs/draw_pictures.py --demo vtadl-demo   draws detector.png alone, from an earlier demo
"""

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from vtadl import Detection, Detector
from vtadl.cli.demo import IMAGE_SIZE, fit_and_test
from vtadl.data import TEXTURES, TextureDefects
from vtadl.data.textures import DEFECTS, Texture
from vtadl.report.plots import histogram_plot
from vtadl.report.recorder import Example, Recording
from vtadl.report.rendering import render_image, render_map, render_mask

PICTURES = Path(__file__).parent / "pictures"
EXAMPLES = 5


class Found(NamedTuple):
    """A test crop and what a detector makes of it."""

    title: str
    sample: Any
    detection: Detection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--demo", type=Path, help="folder that `vtadl demo` wrote")
    demo = parser.parse_args().demo
    if demo is not None:
        draw_detector(demo)
        return
    draw_tutorial()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "vtadl", "demo", "--output", folder], check=True)
        draw_detector(Path(folder))


def draw_detector(demo: Path) -> None:
    """Of each texture and kind of defect, the test crop with the median score."""
    examples = [example for texture in TEXTURES for example in median_examples(demo, texture)]
    figure, axes = plt.subplots(3, len(examples), figsize=(1.15 * len(examples), 3.8), layout="constrained")
    for column, (title, sample, detection) in enumerate(examples):
        pictures = {
            "image": render_image(sample["image"]),
            "anomaly map": render_map(detection.normalised_map),
            "mask found": render_mask(detection.mask),
        }
        for axis, (label, picture) in zip(axes[:, column], pictures.items(), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(title, fontsize=9)
    save(figure, "detector")


def median_examples(demo: Path, texture: Texture) -> Iterator[Found]:
    detector = Detector.load(demo / "checkpoints" / texture / "best.ckpt")
    data = TextureDefects(texture, IMAGE_SIZE)
    data.setup("test")
    for kind in DEFECTS:
        samples = [sample for sample in data.test_set if sample["kind"] == kind]
        pairs = [(sample, detector.predict(sample["image"])) for sample in samples]
        pairs.sort(key=lambda pair: pair[1].normalised_score)
        sample, detection = pairs[len(pairs) // 2]
        yield Found(f"{texture}: {kind}\n{detection.normalised_score:.2f}", sample, detection)


def draw_tutorial() -> None:
    data = TextureDefects("gravel")
    with tempfile.TemporaryDirectory() as folder:
        (result,) = fit_and_test(data, Path(folder))
    save(draw_normal(data), "normal")
    save(draw_found(of_every_kind(result.recording)), "found")
    scores = histogram_plot(result.recording.scores, result.recording.labels)
    (PICTURES / "scores.svg").write_bytes(base64.b64decode(scores.partition(",")[2]))


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


def of_every_kind(recording: Recording) -> list[Example]:
    """The anomalies that stand out most and least, some of each group."""
    groups = list(recording.examples.values())
    return [*groups[0][:3], *groups[1][: EXAMPLES - 3]]


def save(figure: Figure, name: str) -> None:
    figure.savefig(PICTURES / f"{name}.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()

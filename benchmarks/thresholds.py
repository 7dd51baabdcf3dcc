"""Whether the false-alarm rates that a detector states hold for normal images that it has never seen.

    python -m benchmarks.thresholds --root FOLDER_OF_CATEGORIES --categories bottle screw --output reach.json

The embedded textures are always among the sets. A set is all normal images, those of the test included.

- Simulated: calibration images are drawn with repetition from the scores of all images, whose distribution is
  then known exactly. In nine of ten draws the true rate has to be at most the stated one.
- Real: the detector is fitted to a random half of the images, with the choice of its experts, and judges the
  other half. How many false alarms there are is itself subject to chance: even where a bound holds, more may
  be seen than it says. A split contradicts what was stated if so many would be seen with a probability below
  one in a hundred.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from vtadl.common.binomial import probability_of_at_least
from vtadl.data import TEXTURES, ImageDataModule, MVTecAD, Sample, TextureDefects
from vtadl.density import DensitySettings
from vtadl.lightning_module import AnomalyDetector
from vtadl.model import NetworkSettings
from vtadl.scoring.scorer import Scores
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.thresholds import Calibration, Threshold

_RATE = ScoringSettings().image_false_alarm_rate
_CONTRADICTION = 0.01
_CHUNK = 16  # images that are scored at once


class NormalImages(ImageDataModule):
    """Normal images in memory, for a detector that trains nothing."""

    def __init__(self, samples: Sequence[Sample], image_size: tuple[int, int]) -> None:
        super().__init__(image_size, batch_size=_CHUNK, seed=0)
        self.train_set, self.val_set = list(samples[:-1]), list(samples[-1:])  # type: ignore[assignment]

    def setup(self, stage: str) -> None:
        """Does nothing: the images are there."""


class Seen(NamedTuple):
    """What a detector states about a threshold, and how many of the new images exceed it."""

    stated: float
    alarms: int
    images: int

    @property
    def holds(self) -> bool:
        return self.alarms <= self.stated * self.images

    @property
    def contradicts(self) -> bool:
        return probability_of_at_least(self.alarms, self.images, self.stated) < _CONTRADICTION


def data_sets(
    root: str | None, categories: Sequence[str], size: int
) -> Iterator[tuple[str, ImageDataModule]]:
    """The data sets by name."""
    for category in categories:
        yield category, MVTecAD(str(root), category, image_size=size, workers=0)
    for texture in TEXTURES:
        yield texture, TextureDefects(texture, image_size=size)


def normal_samples(data: ImageDataModule) -> list[Sample]:
    """All normal images of a data set."""
    data.setup("fit")
    data.setup("test")
    parts: ConcatDataset[Sample] = ConcatDataset([data.train_set, data.val_set, data.test_set])
    samples = [parts[index] for index in range(len(parts))]
    return [sample for sample in samples if not sample["label"]]


def fit(samples: Sequence[Sample], size: tuple[int, int], density: DensitySettings) -> AnomalyDetector:
    """Fits a detector as `vtadl fit` does."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    detector = AnomalyDetector(NetworkSettings(image_size=size), density)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(detector, NormalImages(samples, size))
    return detector.eval()


def simulate(scores: Tensor, draws: int, seed: int = 0) -> float:
    """The share of draws of half as many images in which the true rate is at most the stated one."""
    generator, held = torch.Generator().manual_seed(seed), 0
    for _ in range(draws):
        threshold = Threshold()
        threshold.fit(scores[torch.randint(len(scores), (len(scores) // 2,), generator=generator)], _RATE)
        true_rate = (scores > threshold.value).float().mean()
        held += int(true_rate <= threshold.false_alarm_rate)
    return held / draws


def judge(calibration: Calibration, scores: Sequence[Scores]) -> dict[str, Seen]:
    """What was stated, and what is seen, of images and of images with a pixel above its threshold."""
    image = torch.cat([part.image for part in scores])
    peaks = torch.cat([part.map.flatten(1).amax(1) for part in scores])
    return {
        kind: Seen(rate.item(), int((values > value).sum()), len(values))
        for kind, rate, values, value in (
            ("image", calibration.image.false_alarm_rate, image, calibration.image.value),
            ("pixel", calibration.pixel.image_false_alarm_rate, peaks, calibration.pixel.value),
        )
    }


def split(
    samples: Sequence[Sample], count: int, size: tuple[int, int], density: DensitySettings, seed: int
) -> dict[str, Seen]:
    """Fits a detector to so many of the images, chosen at random, and judges it by the others."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    fitted, new = order[:count], order[count:]
    detector = fit([samples[index] for index in fitted], size, density)
    images = torch.stack([samples[index]["image"] for index in new])
    with torch.inference_mode():
        scores = [detector(chunk) for chunk in images.split(_CHUNK)]
    return judge(detector.calibration, scores)


def table(results: dict[str, dict[str, float]]) -> str:
    """A Markdown table with a row for each set."""
    names = list(next(iter(results.values())))
    lines = [f"| set | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for name, values in results.items():
        cells = [f"{values[column]:.1%}" if "rate" in column else f"{values[column]:g}" for column in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(
    data: ImageDataModule, density: DensitySettings, draws: int, splits: int, fitted: int | None = None
) -> dict[str, float]:
    """The row of a set; each split fits to half of the images, unless their number is given."""
    samples, size = normal_samples(data), data.image_size
    count = fitted or len(samples) // 2
    row: dict[str, float] = {"normal images": len(samples), "fitted to": count}
    if draws:
        scores = fit(samples, size, density).calibration.image.scores
        row["simulated: holds, of 100"] = round(100 * simulate(scores, draws), 1)
    seen = [split(samples, count, size, density, seed) for seed in range(splits)]
    for kind, title in (("image", "images"), ("pixel", "pixels")) if seen else ():
        own = [both[kind] for both in seen]
        row |= {
            f"{title}: stated rate": mean(x.stated for x in own),
            f"{title}: seen rate": sum(x.alarms for x in own) / sum(x.images for x in own),
            f"{title}: seen at most stated": sum(x.holds for x in own),
            f"{title}: contradicted": sum(x.contradicts for x in own),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of the categories, in the layout of MVTec AD")
    parser.add_argument("--categories", nargs="*", default=[], help="their names")
    parser.add_argument("--textures", nargs="*", default=list(TEXTURES), help="names of embedded textures")
    parser.add_argument("--image-size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--descriptor", default="energies", help="of the experts; all, for every candidate")
    parser.add_argument(
        "--positions", help="of the experts, such as own or shared; with one, nothing is chosen"
    )
    parser.add_argument("--fitted", type=int, help="number of images to fit to; half of them by default")
    parser.add_argument("--draws", type=int, default=200, help="number of simulated splits")
    parser.add_argument("--splits", type=int, default=10, help="number of real splits")
    parser.add_argument("--output", type=Path, help="JSON file of the rows")
    options = parser.parse_args()
    descriptor = None if options.descriptor == "all" else options.descriptor
    density = DensitySettings(descriptor=descriptor, positions=options.positions)
    results: dict[str, dict[str, float]] = {}
    for name, data in data_sets(options.root, options.categories, options.image_size):
        if name in options.categories or name in options.textures:
            results[name] = measure(data, density, options.draws, options.splits, options.fitted)
            print(table({name: results[name]}), flush=True)
            if options.output:
                options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

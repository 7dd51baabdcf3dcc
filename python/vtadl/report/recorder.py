"""The callback that records what the report of a test shows."""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import lightning as L
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback

from vtadl.data import categories_of
from vtadl.report.rendering import RGBImage, render_image, render_map, render_mask, render_overlay
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Decisions, decide

EXAMPLES_PER_GROUP = 6
# The label of each group's images, and 1 for the largest scores first or -1 for the smallest.
GROUPS = {
    "Anomalies that stand out most": (1, 1),
    "Anomalies that look most normal": (1, -1),
    "Normal images that look most anomalous": (0, 1),
}


@dataclass(frozen=True)
class Example:
    """A test image and its detection."""

    name: str
    score: float  # normalised
    anomalous: bool  # the decision of the detector
    pictures: dict[str, RGBImage]


@dataclass
class Recording:
    """The scores and labels of all test images, and the pictures of a few."""

    scores: list[float] = field(default_factory=list)  # normalised
    labels: list[int] = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)  # by group


class Recorder(Callback):
    """Records a test; pictures are kept only of the images with the most extreme scores of each group.

    Each category of the test images has a recording of its own.
    """

    def __init__(self) -> None:
        self.recordings: dict[str, Recording] = {}
        self._heaps: dict[tuple[str, str], list[tuple[float, int, Example]]] = {}  # by category and group
        self._order = count()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        categories = getattr(trainer.datamodule, "categories", ("",))  # type: ignore[attr-defined]
        self.recordings = {name: Recording() for name in categories}
        self._heaps = {(name, group): [] for name in categories for group in GROUPS}

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *indices: int
    ) -> None:
        for index, category in enumerate(categories_of(batch)):
            one = slice(index, index + 1)
            scores = Scores(outputs["image"][one], outputs["map"][one])
            name = category if category in self.recordings else next(iter(self.recordings))
            calibration = pl_module.calibration.of(category)
            self._record(name, batch, index, decide(calibration, scores, batch["image"].shape[-2:]))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for (name, group), heap in self._heaps.items():
            ranked = sorted(heap, reverse=True, key=lambda entry: entry[:2])
            self.recordings[name].examples[group] = [example for *_, example in ranked]

    def _record(self, category: str, batch: Any, index: int, decisions: Decisions) -> None:
        """Records the image of a batch, given its decisions, which are a batch of one."""
        score, label = decisions.normalised_score.item(), int(batch["label"][index])
        self.recordings[category].scores.append(score)
        self.recordings[category].labels.append(label)
        for group, (group_label, sign) in GROUPS.items():
            heap = self._heaps[category, group]
            ranks_high = len(heap) < EXAMPLES_PER_GROUP or sign * score > heap[0][0]
            if label == group_label and ranks_high:
                example = _example(batch, index, decisions)
                heapq.heappush(heap, (sign * score, -next(self._order), example))
                if len(heap) > EXAMPLES_PER_GROUP:
                    heapq.heappop(heap)


def _example(batch: Any, index: int, decisions: Decisions) -> Example:
    image = render_image(batch["image"][index])
    # Every marked pixel of a mask that is larger than the image marks one of the picture.
    truth = F.adaptive_max_pool2d((batch["mask"][index] > 0).float(), image.shape[:2])[0].cpu().numpy() > 0
    map_, mask = decisions.normalised_map[0].cpu().numpy(), decisions.mask[0].cpu().numpy()
    pictures = {
        "image": image,
        "ground truth": render_mask(truth),
        "map": render_map(map_),
        "found": render_overlay(image, map_, mask),
    }
    score, anomalous = decisions.normalised_score.item(), bool(decisions.anomalous)
    return Example(batch["name"][index], score, anomalous, pictures)

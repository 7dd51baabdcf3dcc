"""The callback that records what the report of a test shows."""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.report.rendering import RGBImage, render_image, render_map, render_mask, render_overlay
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import decide

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
    """Records a test; pictures are kept only of the images with the most extreme scores of each group."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._heaps: dict[str, list[tuple[float, int, Example]]] = {name: [] for name in GROUPS}
        self._order = count()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *indices: int
    ) -> None:
        decisions = decide(pl_module.calibration, Scores(**outputs), batch["mask"].shape[-2:])
        score, anomalous, maps, masks = (
            part.cpu().numpy()
            for part in (
                decisions.normalised_score,
                decisions.anomalous,
                decisions.normalised_map,
                decisions.mask,
            )
        )
        truth = batch["mask"][:, 0].cpu().numpy() > 0
        for index, label in enumerate(batch["label"].tolist()):
            self.recording.scores.append(float(score[index]))
            self.recording.labels.append(label)
            for group, (group_label, sign) in GROUPS.items():
                if label == group_label and self._ranks_high(group, sign * score[index]):
                    image = render_image(batch["image"][index])
                    pictures = {
                        "image": image,
                        "ground truth": render_mask(truth[index]),
                        "map": render_map(maps[index]),
                        "found": render_overlay(image, maps[index], masks[index]),
                    }
                    example = Example(
                        batch["name"][index], float(score[index]), bool(anomalous[index]), pictures
                    )
                    self._add(group, float(sign * score[index]), example)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.recording.examples = {
            group: [example for *_, example in sorted(heap, reverse=True, key=lambda entry: entry[:2])]
            for group, heap in self._heaps.items()
        }

    def _ranks_high(self, group: str, rank: float) -> bool:
        heap = self._heaps[group]
        return len(heap) < EXAMPLES_PER_GROUP or rank > heap[0][0]

    def _add(self, group: str, rank: float, example: Example) -> None:
        heapq.heappush(self._heaps[group], (rank, -next(self._order), example))
        if len(self._heaps[group]) > EXAMPLES_PER_GROUP:
            heapq.heappop(self._heaps[group])

"""Keeps of a test what a report shows."""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.report.pictures import Pixels, image_picture, map_picture, mask_picture, overlay_picture
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import decide

EXAMPLES = 6
GROUPS = {  # by what they show: label, and the sign of the scores that come first
    "Anomalies that stand out most": (1, 1),
    "Anomalies that look most normal": (1, -1),
    "Normal images that look most anomalous": (0, 1),
}


@dataclass(frozen=True)
class Example:
    """One test image and what the detector makes of it."""

    name: str
    score: float  # normalised
    anomalous: bool  # as the detector has it
    pictures: dict[str, Pixels]


@dataclass
class Record:
    """What a test came to, image by image."""

    scores: list[float] = field(default_factory=list)  # normalised
    labels: list[int] = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)


class Recorder(Callback):
    """Records a test; of the pictures, only those of a few images that say most."""

    def __init__(self) -> None:
        self.record = Record()
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
            self.record.scores.append(float(score[index]))
            self.record.labels.append(label)
            for group, (wanted, sign) in GROUPS.items():
                if label == wanted and self._belongs(group, sign * score[index]):
                    image = image_picture(batch["image"][index])
                    pictures = {
                        "image": image,
                        "ground truth": mask_picture(truth[index]),
                        "map": map_picture(maps[index]),
                        "found": overlay_picture(image, maps[index], masks[index]),
                    }
                    example = Example(
                        batch["name"][index], float(score[index]), bool(anomalous[index]), pictures
                    )
                    self._keep(group, float(sign * score[index]), example)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.record.examples = {
            group: [example for *_, example in sorted(heap, reverse=True, key=lambda entry: entry[:2])]
            for group, heap in self._heaps.items()
        }

    def _belongs(self, group: str, key: float) -> bool:
        heap = self._heaps[group]
        return len(heap) < EXAMPLES or key > heap[0][0]

    def _keep(self, group: str, key: float, example: Example) -> None:
        heapq.heappush(self._heaps[group], (key, -next(self._order), example))
        if len(self._heaps[group]) > EXAMPLES:
            heapq.heappop(self._heaps[group])

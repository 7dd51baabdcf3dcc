"""The metrics of a test with several categories of images: of each, and their mean."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from torch import Tensor, nn

from vtadl.metrics.detection import DetectionMetrics
from vtadl.metrics.evaluation import KIND_METRICS, Evaluation


@dataclass(frozen=True)
class CategoryEvaluations:
    """The results of a test of several categories."""

    by_category: dict[str, Evaluation]

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the categories whose images define it."""
        return mean_metrics(self.by_category.values())

    @property
    def metrics(self) -> dict[str, float]:
        """The means by the names of the metrics, and each category's metrics as `category/metric`."""
        own = {
            f"{category}/{name}": value
            for category, evaluation in self.by_category.items()
            for name, value in evaluation.metrics.items()
        }
        return self.mean | own

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as types that JSON can hold, with the keys of `evaluation.json`."""
        categories = {name: evaluation.as_dict() for name, evaluation in self.by_category.items()}
        return {"figures": self.mean, "categories": categories}

    def __rich__(self) -> RenderableType:
        table = Table("category", "images", *KIND_METRICS, title="all categories")
        for name, evaluation in self.by_category.items():
            table.add_row(name, str(evaluation.num_images), *_cells(evaluation.metrics))
        table.add_section()
        table.add_row("mean", "", *_cells(self.mean))
        sections = ((Rule(name), evaluation) for name, evaluation in self.by_category.items())
        return Group(*(part for section in sections for part in section), Rule(), table)


class CategoryMetrics(nn.Module):
    """The metrics of each category; it takes batches, in any number of processes."""

    def __init__(self) -> None:
        super().__init__()
        self.reset([""])

    def reset(self, categories: Sequence[str]) -> None:
        """Forgets all images, and expects those of the given categories."""
        self.categories = tuple(categories)
        self.of_category = nn.ModuleList(DetectionMetrics() for _ in categories)

    @property
    def num_images(self) -> int:
        """Number of images that this process has added since the last reset."""
        return sum(metrics.num_images for _, metrics in self.items())

    def items(self) -> Iterator[tuple[str, DetectionMetrics]]:
        """Yields each category and its metrics."""
        for name, metrics in zip(self.categories, self.of_category, strict=True):
            assert isinstance(metrics, DetectionMetrics)
            yield name, metrics

    def update(
        self,
        categories: Sequence[str],
        kinds: Sequence[str],
        scores: Tensor,
        labels: Tensor,
        maps: Tensor,
        masks: Tensor | Sequence[Tensor],
        has_mask: Tensor,
        brightness: Tensor,
    ) -> None:
        """Adds a batch.

        Args:
            categories: The category of each image; it is not read if only one is expected.
            kinds: The kind of defect of each image.
            scores: As in :meth:`DetectionMetrics.update`, like all that follow.
            labels: 0 normal, 1 anomalous.
            maps: Scores of the pixels.
            masks: Ground truth of the pixels.
            has_mask: Whether the mask is known.
            brightness: Mean grey levels.
        """
        for name, metrics in self.items():
            own = [i for i, shown in enumerate(categories) if len(self.categories) == 1 or shown == name]
            # Processes exchange states of every category, which therefore gets a batch even without images.
            own_masks, own_kinds = [masks[i] for i in own], [kinds[i] for i in own]
            metrics.update(
                scores[own], labels[own], maps[own], own_masks, has_mask[own], own_kinds, brightness[own]
            )


def mean_metrics(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Computes the mean of each metric over the evaluations that define it."""
    values: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for name, value in evaluation.metrics.items():
            values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def _cells(metrics: dict[str, float]) -> list[str]:
    return [f"{metrics[name]:.4f}" if name in metrics else "" for name in KIND_METRICS]

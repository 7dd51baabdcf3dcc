"""How well anomaly scores separate anomalous images and pixels from normal ones."""

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.utilities import dim_zero_cat


class DetectionMetrics(Metric):
    """AUROC and average precision of image scores and of anomaly maps.

    A figure that the data does not define is left out: all of an image kind when only normal or only
    anomalous images were seen, and the pixel kind when no mask marks a pixel.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    pixel_scores: list[Tensor]
    pixel_labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels", "pixel_scores", "pixel_labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, maps: Tensor, masks: Tensor, has_mask: Tensor) -> None:
        """Takes in scores and labels [B], maps and masks [B, 1, H, W], and whether a mask is known [B]."""
        self.scores.append(scores)
        self.labels.append(labels.int())
        self.pixel_scores.append(maps[has_mask].flatten())
        self.pixel_labels.append(masks[has_mask].flatten().int())

    def compute(self) -> dict[str, float]:
        """The figures by name, each in [0, 1]."""
        image = detection_figures(dim_zero_cat(self.scores), dim_zero_cat(self.labels))
        pixel = detection_figures(dim_zero_cat(self.pixel_scores), dim_zero_cat(self.pixel_labels))
        return {f"image_{name}": value for name, value in image.items()} | {
            f"pixel_{name}": value for name, value in pixel.items()
        }


def detection_figures(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """AUROC and average precision of scores [M] against labels [M]; nothing if all labels are the same."""
    if labels.min() == labels.max():
        return {}
    # torchmetrics squashes scores outside [0, 1], which ties the largest ones; ranks keep the order.
    order, ranks = scores.unique(return_inverse=True)
    ranks = ranks.double() / len(order)
    return {
        "auroc": binary_auroc(ranks, labels).item(),
        "average_precision": binary_average_precision(ranks, labels).item(),
    }

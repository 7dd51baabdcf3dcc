"""Training and evaluation of the detector."""

import math
from itertools import islice
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

from vtadl.calibration import Calibration
from vtadl.data import Sample, own_samples
from vtadl.data.images import Fit
from vtadl.guard import require_finite
from vtadl.metrics import DetectionMetrics, Evaluation
from vtadl.model import VTADL, Prediction, VTADLLoss
from vtadl.model.loss import LossTerms
from vtadl.model.mixture import MixtureForm, ScaleParam
from vtadl.scoring import AnomalyScorer, MapTerm, Scores, ScoreTerm


class AnomalyDetector(L.LightningModule):
    """VT-ADL with its loss, its scores and its optimiser."""

    evaluation: Evaluation  # of the latest test
    fit: Fit = "stretch"  # how the data module gave images the size of the network

    def __init__(
        self,
        mse_weight: float = 500.0,
        ssim_weight: float = 5.0,
        scale_param: ScaleParam = "log_std",
        min_std: float = 0.1,
        mixture: MixtureForm = "logsumexp",
        score_terms: list[ScoreTerm] = ["mse", "dissimilarity", "nll"],  # noqa: B006
        map_terms: list[MapTerm] = ["error", "dissimilarity", "nll"],  # noqa: B006
        top_patches: int = 10,
        smoothing: float = 2.0,
        image_false_alarm_rate: float = 0.01,
        pixel_false_alarm_rate: float = 0.01,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 50,
        **network: Any,
    ) -> None:
        """Builds the detector.

        Args:
            mse_weight: Weight of the mean squared error in the loss.
            ssim_weight: Weight of the structural dissimilarity in the loss.
            scale_param: How the mixture head's scale is read.
            min_std: Smallest standard deviation of a component, where a token's own is 1.
            mixture: The mixture's likelihood, or the weighted sum of the published code.
            score_terms: What the score of an image adds up.
            map_terms: What the anomaly map adds up.
            top_patches: How many patches, those of the least usual NLL, count in the score of an image.
            smoothing: Standard deviation of the Gaussian filter over the map, in pixels.
            image_false_alarm_rate: How many of the normal images may exceed the threshold of images.
            pixel_false_alarm_rate: How many of their pixels may exceed the threshold of pixels.
            learning_rate: Largest learning rate.
            weight_decay: Weight decay of AdamW.
            warmup_steps: Steps until the largest learning rate.
            network: Sizes of the network.
        """
        super().__init__()
        self.save_hyperparameters()
        self.network = VTADL(**network, scale_param=scale_param, min_std=min_std, mixture=mixture)
        self.loss = VTADLLoss(mse_weight, ssim_weight)
        self.scorer = AnomalyScorer(self.network.grid, score_terms, map_terms, top_patches, smoothing)
        self.calibration = Calibration(image_false_alarm_rate, pixel_false_alarm_rate)
        self.metrics = DetectionMetrics()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps

    def forward(self, images: Tensor) -> Scores:
        """Scores images [B, 3, H, W] in [0, 1]."""
        prediction = self.network(images)
        return self.scorer(images, prediction, self._patch_nll(prediction))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        terms = self.loss(batch["image"], self.network(batch["image"]))
        require_finite(terms, self.global_step)
        self._log_loss("train", terms, batch)
        return terms.total

    def on_validation_epoch_start(self) -> None:
        self.scorer.reset()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        prediction = self.network(batch["image"])
        self._log_loss("val", self.loss(batch["image"], prediction), batch)
        self.scorer.update(batch["image"], prediction, self._patch_nll(prediction))

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            loader = cast(DataLoader[Sample], self.trainer.val_dataloaders)
            batches = islice(loader, int(self.trainer.num_val_batches[0]))
            self.calibration.fit(self, (batch["image"].to(self.device, self.dtype) for batch in batches))

    def test_step(self, batch: Sample, batch_idx: int) -> dict[str, Any]:
        own = slice(
            own_samples(cast(DataLoader[Sample], self.trainer.test_dataloaders)) - self.metrics.images_seen
        )
        scores = self(batch["image"])
        self.metrics.update(
            scores.image[own],
            batch["label"][own],
            scores.map[own],
            batch["mask"][own],
            batch["has_mask"][own],
            batch["kind"][own],
        )
        return scores._asdict()

    def on_test_epoch_end(self) -> None:
        self.evaluation = self.metrics.evaluate()
        self.log_dict(self.evaluation.figures, sync_dist=True)  # the same in every process
        self.metrics.reset()

    def predict_step(self, batch: Sample, batch_idx: int) -> Scores:
        return self(batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fit"] = getattr(self.trainer.datamodule, "fit", self.fit)  # type: ignore[attr-defined]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.fit = checkpoint.get("fit", self.fit)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _patch_nll(self, prediction: Prediction) -> Tensor:
        nll = prediction.mixture.nll(prediction.tokens, reduction="none")
        return nll.unflatten(1, self.network.grid)

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine; a resumed run may have more steps than the first."""
        progress = min(1.0, step / self.trainer.estimated_stepping_batches)
        return min(1.0, (step + 1) / self.warmup_steps) * 0.5 * (1 + math.cos(math.pi * progress))

    def _log_loss(self, stage: str, terms: LossTerms, batch: Sample) -> None:
        count = len(batch["label"])
        for name, value in zip(("loss", "nll", "mse", "ssim"), terms, strict=True):
            self.log(
                f"{stage}_{name}",
                value,
                prog_bar=stage == "train" or name == "loss",
                on_step=False,
                on_epoch=True,
                batch_size=count,
                sync_dist=True,
            )

"""Training and evaluation of the detector."""

import math
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision, require_precision
from vtadl.common.ranges import require_fraction, require_not_negative, require_positive
from vtadl.data import Sample, rank_sample_count
from vtadl.density import Background, Descriptor, Positions
from vtadl.errors import InputError
from vtadl.images.equal_norm import EqualNorm
from vtadl.images.pixels import ResizeMode
from vtadl.images.tiles import cut, join
from vtadl.metrics import DetectionMetrics, Evaluation
from vtadl.model import VTADL, Likelihood, VTADLLoss
from vtadl.model.guard import require_finite, require_room
from vtadl.model.loss import LossTerms
from vtadl.scoring.scorer import AnomalyScorer, Scores, Term
from vtadl.scoring.thresholds import Calibration
from vtadl.synthesis.anomalies import make_pseudo_anomalies
from vtadl.tuning.fitting import collect_images, fit_dictionary

_SMALLEST_SIDE = 11  # of images, that of the window of their structural similarity


class AnomalyDetector(FullPrecisionModule, L.LightningModule):
    """VT-ADL with its loss, its scores and its optimiser."""

    evaluation: Evaluation  # of the latest test
    resize_mode: ResizeMode = "stretch"  # how the data module gave images the size of the network

    @full_precision()
    def __init__(
        self,
        likelihood: Likelihood = "dictionary",
        descriptor: Descriptor | None = None,
        positions: Positions | None = None,
        components: int | None = None,
        min_std: float | None = None,
        softness: float | None = None,
        background: Background | None = None,
        mse_weight: float = 5.0,
        ssim_weight: float = 0.5,
        terms: list[Term] | None = None,
        normalised: bool | None = None,
        top_patches: int = 10,
        smoothing: float = 3.0,
        image_false_alarm_rate: float = 0.01,
        pixel_false_alarm_rate: float = 0.01,
        equal_norm: bool = False,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 50,
        **network: Any,
    ) -> None:
        """Builds the detector; what is None is chosen from the normal images.

        Args:
            likelihood: `dictionary` for components that stay near normal windows, `paper` for a mixture
                predicted for each token, `public-code` for the published code's weighted sum.
            descriptor: Whether a dictionary is a density of windows of `pixels`, or of local means and the
                logarithms of local `energies`.
            positions: Whether a dictionary has a mixture for each position or one that all share.
            components: Gaussians in a mixture; 10 if None with a likelihood that is not `dictionary`.
            min_std: Floor of the standard deviations, where the leading feature's own is about 1; of the
                tokens with `paper`, 0.1 if None.
            softness: Of the dictionary's whitening, from 0, all features alike, upwards.
            background: Whether a dictionary's likelihood counts alone (`none`), or relative to that among
                `pictures`, textures of formulas and photographs of this and that.
            mse_weight: Weight of the mean squared error in the loss.
            ssim_weight: Weight of the structural dissimilarity in the loss.
            terms: What scores and maps are made of.
            normalised: Whether each place is compared with normal images at that place; if None, where
                the positions have mixtures of their own and enough images are held out.
            top_patches: How many patches, those of the largest NLL, count in the score of an image.
            smoothing: Standard deviation of the Gaussian filter over the map, in pixels.
            image_false_alarm_rate: How many of the normal images may exceed the threshold of images.
            pixel_false_alarm_rate: How many of their pixels may exceed the threshold of pixels.
            equal_norm: Whether every image is brought to the norm of normal ones, so that a dark or empty one
                is judged by its shapes.
            learning_rate: Largest learning rate.
            weight_decay: Weight decay of AdamW.
            warmup_steps: Steps until the largest learning rate.
            network: Sizes of the network.

        Raises:
            InputError: If a number is out of its range.
        """
        super().__init__()
        require_positive(components=components, top_patches=top_patches, warmup_steps=warmup_steps)
        require_not_negative(min_std=min_std, softness=softness, smoothing=smoothing)
        require_not_negative(mse_weight=mse_weight, ssim_weight=ssim_weight)
        require_not_negative(learning_rate=learning_rate, weight_decay=weight_decay)
        require_fraction(image_false_alarm_rate=image_false_alarm_rate)
        require_fraction(pixel_false_alarm_rate=pixel_false_alarm_rate)
        if terms == []:
            raise InputError("terms is empty; without any there is no score")
        self.save_hyperparameters()
        require_room(partial(VTADL, likelihood=likelihood, **network | {"pretrained": None}))
        self.network = VTADL(
            likelihood=likelihood,
            components=components or 10,
            min_std=0.1 if min_std is None else min_std,
            **network,
        )
        height, width = self.network.image_size
        if min(height, width) < _SMALLEST_SIDE:
            raise InputError(
                f"image_size is {height}x{width}; either side has to be {_SMALLEST_SIDE} pixels or more"
            )
        self.norm = EqualNorm() if equal_norm else nn.Identity()
        if likelihood == "dictionary" and descriptor not in (None, *self.network.dictionary.descriptors):
            known = " or ".join(self.network.dictionary.descriptors)
            raise InputError(f"descriptor must be {known} for this network, got {descriptor}")
        self.loss = VTADLLoss(mse_weight, ssim_weight)
        self.scorer = AnomalyScorer(
            self.network.grid, self.network.image_size, terms, normalised, top_patches, smoothing
        )
        self.calibration = Calibration(image_false_alarm_rate, pixel_false_alarm_rate)
        chosen = {
            "descriptor": descriptor,
            "positions": positions,
            "components": components,
            "min_std": min_std,
            "softness": softness,
            "background": background,
        }
        self.fixed = {name: value for name, value in chosen.items() if value is not None}
        self.metrics = DetectionMetrics()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps

    @in_full_precision
    def setup(self, stage: str) -> None:
        """Fits the dictionary to the training images, unless a checkpoint brings its own.

        Raises:
            InputError: If the trainer was given no data module, or a precision in which nothing is float32.
        """
        require_precision(self.trainer.precision)
        resumed = self.trainer.ckpt_path is not None
        has_dictionary = self.network.likelihood == "dictionary"
        fitted = has_dictionary and self.network.dictionary.fitted
        if stage != "fit" or resumed or fitted:
            return
        if not has_dictionary and not isinstance(self.norm, EqualNorm):
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise InputError("the dictionary is fitted to a data module: pass one to Trainer.fit")
        images = collect_images(data.unsharded_train_dataloader(), self.network.grid).to(self.device)
        if isinstance(self.norm, EqualNorm):
            self.norm.fit(images)
        if has_dictionary:
            top_patches, smoothing = self.scorer.top_patches, self.scorer.smoothing
            fit_dictionary(self.network, self.norm(images), top_patches, smoothing, self.fixed)

    @in_full_precision
    def forward(self, images: Tensor, seen: bool = False) -> Scores:
        """Scores images [B, 3, H, W] in [0, 1].

        One that is larger than the network is cut into tiles: its score is the largest of theirs. Validation
        images have been `seen` by the scorer, and are scored as if it had not seen them.
        """
        if images.shape[-2:] != self.network.image_size:
            return self.score_tiles(images, seen)
        images = self.norm(images)
        prediction = self.network(images, self.scorer.reconstructs)
        return self.scorer(images, prediction, self.network.patch_scores(prediction), seen)

    def score_tiles(self, images: Tensor, seen: bool = False) -> Scores:
        """Scores images that are no smaller than the network, by their tiles."""
        scores = self(cut(images, self.network.image_size), seen)
        of_tiles = scores.image.unflatten(0, (images.shape[0], -1))
        return Scores(of_tiles.amax(1), join(scores.map, (images.shape[-2], images.shape[-1])))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        images = self.norm(batch["image"])
        terms = self.loss(images, self.network(images))
        require_finite(terms, self.global_step)
        self._log_loss("train", terms, batch)
        return terms.total

    def on_validation_epoch_start(self) -> None:
        self.scorer.reset(self.network.aligned)

    @in_full_precision
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        images = self.norm(cut(batch["image"], self.network.image_size))
        prediction = self.network(images)
        self._log_loss("val", self.loss(images, prediction), batch)
        self.scorer.update(images, prediction, self.network.patch_scores(prediction))
        if self.scorer.chooses:
            images, masks = make_pseudo_anomalies(images, seed=batch_idx)
            prediction = self.network(images)
            self.scorer.update_anomalous(images, prediction, self.network.patch_scores(prediction), masks)

    @in_full_precision
    def on_validation_epoch_end(self) -> None:
        separation = self.scorer.finish()
        if separation is not None:
            self.log("val_separation", separation, sync_dist=True)
        if not self.trainer.sanity_checking:
            loader = cast(DataLoader[Sample], self.trainer.val_dataloaders)
            batches = islice(loader, int(self.trainer.num_val_batches[0]))
            images = (batch["image"].to(self.device) for batch in batches)
            self.calibration.fit(partial(self, seen=True), images)

    def test_step(self, batch: Sample, batch_idx: int) -> dict[str, Any]:
        own = slice(
            rank_sample_count(cast(DataLoader[Sample], self.trainer.test_dataloaders))
            - self.metrics.num_images
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

    def on_test_start(self) -> None:
        mode = getattr(self.trainer.datamodule, "resize_mode", self.resize_mode)  # type: ignore[attr-defined]
        if mode != self.resize_mode:
            raise InputError(
                f"the detector was trained with resize_mode={self.resize_mode}, but the test data have "
                f"resize_mode={mode}"
            )

    def on_test_epoch_end(self) -> None:
        self.evaluation = self.metrics.evaluate(self.calibration.image.value.item())
        self.log_dict(self.evaluation.metrics, sync_dist=True)  # the same in every process
        self.metrics.reset()

    def predict_step(self, batch: Sample, batch_idx: int) -> Scores:
        return self(batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        checkpoint["resize_mode"] = getattr(data, "resize_mode", self.resize_mode)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resize_mode = saved_resize_mode(checkpoint) or self.resize_mode

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.AdamW(
            self._parameter_groups(), self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """All that is trained; the components of a dictionary move slowly, and towards no zero."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        dictionary = [p for name, p in trained.items() if name.startswith("network.dictionary.")]
        others = [p for name, p in trained.items() if not name.startswith("network.dictionary.")]
        slow = {"params": dictionary, "lr": 0.1 * self.learning_rate, "weight_decay": 0.0}
        return [{"params": others}, *([slow] if dictionary else [])]

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine; a resumed run may have more steps than the first."""
        progress = min(1.0, step / max(1, self.trainer.estimated_stepping_batches))
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


def saved_resize_mode(checkpoint: Mapping[str, Any]) -> ResizeMode | None:
    """How the run of a checkpoint resized its images, if the checkpoint says so; it was called `fit` once."""
    mode: ResizeMode | None = checkpoint.get("resize_mode", checkpoint.get("fit"))
    return mode

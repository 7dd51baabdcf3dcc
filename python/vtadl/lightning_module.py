"""Training and evaluation of the detector."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision, require_precision
from vtadl.data import Sample, categories_of, rank_sample_count
from vtadl.density import DensitySettings
from vtadl.errors import InputError
from vtadl.images.equal_lighting import EqualLighting
from vtadl.images.equal_norm import EqualNorm
from vtadl.images.pixels import ResizeMode
from vtadl.images.tiles import cut, join
from vtadl.metrics import CategoryEvaluations, CategoryMetrics, DetectionMetrics, Evaluation
from vtadl.model import VTADL, LossSettings, NetworkSettings, OptimizerSettings, Prediction, VTADLLoss
from vtadl.model.guard import require_finite, require_room
from vtadl.model.optimizer import make_optimizer
from vtadl.model.settings import choose_image_size
from vtadl.one_step import OneStepModule
from vtadl.scoring.brightness import brightness
from vtadl.scoring.false_alarms import normal_images_sentence
from vtadl.scoring.scorer import AnomalyScorer, Scores
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.thresholds import Calibration
from vtadl.settings import make_settings, plain_settings
from vtadl.tuning.fitting import fit_dictionary
from vtadl.tuning.folds import assign_folds, score_out_of_fold
from vtadl.tuning.symmetry import require_turnable
from vtadl.tuning.training_images import TrainingImages, collect_images

_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # makes load_from_checkpoint build the settings
_TRAINED_PARTS = ("embedding", "encoder", "bottleneck", "decoder", "gate")  # of the network
_MIN_SIDE = 11  # pixels of an image, the side of the window of SSIM


class AnomalyDetector(FullPrecisionModule, OneStepModule):
    """VT-ADL with its loss, its scores and its optimiser.

    If nothing that is trained can change a score, there are no epochs: `setup` fits the dictionary to all
    normal images, those for validation included, and sets the thresholds by the scores that each of them has
    if the dictionary is fitted to others. The validation sets the thresholds of a detector that is trained.

    `load_from_checkpoint` loads checkpoints of this version, and `vtadl.checkpoints.load_detector` also loads
    those of earlier versions.
    """

    evaluation: Evaluation | CategoryEvaluations  # of the latest test
    resize_mode: ResizeMode = "stretch"  # how the data module resized images to the size of the network
    resumes: bool = False  # whether a checkpoint will replace everything that `setup` would fit
    held_out_nll: Tensor | None = None  # of windows that were held out from the fit, if nothing is trained

    @full_precision()
    def __init__(
        self,
        network: NetworkSettings = NetworkSettings(),
        density: DensitySettings = DensitySettings(),
        loss: LossSettings = LossSettings(),
        scoring: ScoringSettings = ScoringSettings(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        equal_norm: bool = False,
        equal_lighting: bool = True,
    ) -> None:
        """Builds the detector.

        Args:
            network: Size of the images, and sizes of the transformer and its decoder, which exist only if
                training can change a score.
            density: The density of patches.
            loss: Weights of the loss.
            scoring: Scores, maps and thresholds.
            optimizer: Learning rate and weight decay.
            equal_norm: Whether every image is scaled to the mean norm of normal images, so that its
                brightness does not matter.
            equal_lighting: Whether images that are brighter, darker, or of more or less contrast than all
                training images are brought into the range of these, so that another exposure is no anomaly.
                It has an effect with a dictionary and without `equal_norm`.

        Raises:
            InputError: If the sizes do not match, images that are not square would be turned by a quarter, or
                the network does not fit into memory.
        """
        super().__init__()
        if network.image_size is None:
            size = choose_image_size(None, density.backbone, density.backbone_size)
            network = replace(network, image_size=size)
        plain = plain_settings(network, density, loss, scoring, optimizer)
        plain |= {"equal_norm": equal_norm, "equal_lighting": equal_lighting}
        scoring = replace(scoring, terms=scoring.terms_with(density.likelihood))
        self.density_settings, self.scoring_settings = density, scoring
        self.optimizer_settings = optimizer
        windows = replace(density, backbone=None, descriptor=None)
        require_room(partial(VTADL, network, windows, scoring.reconstructs))
        self.network = VTADL(network, density, scoring.reconstructs)
        plain["density"]["backbone_config"] = self.network.backbone_config
        self.save_hyperparameters(plain | {"_instantiator": _INSTANTIATOR})
        equal_lighting = equal_lighting and density.likelihood == "dictionary"
        self.norm = EqualNorm() if equal_norm else EqualLighting() if equal_lighting else nn.Identity()
        _require_size(self.network.image_size)
        require_turnable(self.network.image_size, density.symmetry)
        self.loss = VTADLLoss(loss)
        self.scorer = AnomalyScorer(self.network.grid, self.network.image_size, scoring)
        self.calibration = Calibration(scoring.image_false_alarm_rate, scoring.pixel_false_alarm_rate)
        self.metrics = CategoryMetrics()

    @classmethod
    def from_settings(cls, **settings: Any) -> "AnomalyDetector":
        """Builds the detector from plain values, as files and checkpoints hold them.

        Raises:
            InputError: If there is no setting of a name, or a value cannot be used.
        """
        return cls(**make_settings(settings))

    @property
    def trains(self) -> bool:
        """Whether anything that is trained can change a score."""
        return self.network.trains

    @in_full_precision
    def setup(self, stage: str) -> None:
        """Fits the dictionary to the training images, unless a checkpoint contains a fitted one.

        Raises:
            InputError: If the trainer has no data module, or a precision without float32.
        """
        require_precision(self.trainer.precision)
        if stage == "fit":
            self._fit()
        super().setup(stage)

    def _fit(self) -> None:
        resumed = self.resumes or self.trainer.ckpt_path is not None
        has_dictionary = self.network.likelihood == "dictionary"
        fitted = has_dictionary and self.network.dictionary.fitted
        if resumed or fitted:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        needs_images = has_dictionary or not isinstance(self.norm, nn.Identity)
        if not needs_images and not hasattr(data, "unsharded_train_dataloader"):
            return
        if data is None:
            raise InputError("the dictionary is fitted to a data module: pass one to Trainer.fit")
        if self.trains:
            _require_validation(getattr(data, "unvalidated", {}))
        self.calibration.set_categories(getattr(data, "categories", ()))
        batches = data.unsharded_train_dataloader() if self.trains else data.normal_dataloader()
        images = collect_images(self.calibration.observe(batches), self.network.grid, self.network.image_size)
        tiles = images.tiles.to(self.device)
        if not isinstance(self.norm, nn.Identity):
            self.norm.fit(tiles)
        if has_dictionary:
            dictionary, settings = self.network.dictionary, (self.density_settings, self.scoring_settings)
            fit = fit_dictionary(dictionary, self.norm(tiles), *settings)
            self.network.open_gate()
        if not self.trains:
            print("training: none, because it would change no score; epochs and augmentation have no effect")
            folds = assign_folds(images.categories).repeat_interleave(torch.tensor(images.counts))
            held_out = images._replace(tiles=tiles)
            self._calibrate(held_out, score_out_of_fold(dictionary, *fit, folds).to(self.device))

    @torch.no_grad()
    def _calibrate(self, images: TrainingImages, patch_scores: Tensor) -> None:
        """Fits moments and thresholds to the scores [N, rows, columns] of tiles that were held out."""
        self.held_out_nll = patch_scores.mean()
        parts = list(zip(images.split(images.tiles), images.split(patch_scores), strict=True))
        self.scorer.reset()
        for tiles, patches in parts:
            self.scorer.update(tiles, Prediction(None, None, None, patches), patches)
        self.scorer.finish()

        def scored() -> Iterator[tuple[Scores, list[str]]]:
            for (tiles, patches), size, category in zip(parts, images.sizes, images.categories, strict=True):
                prediction = Prediction(None, None, None, patches)
                scores = self.scorer(tiles, prediction, patches, leave_one_out=True)
                yield _join_tiles(scores, size), [category]

        self.calibration.fit_scores(scored())

    @in_full_precision
    def forward(self, images: Tensor, leave_one_out: bool = False) -> Scores:
        """Scores images [B, 3, H, W] in [0, 1].

        An image that is larger than the network is cut into tiles, and has the largest score of its tiles.
        With `leave_one_out`, the images are those of the validation, and each is scored as if it had not been
        among them.
        """
        if images.shape[-2:] != self.network.image_size:
            return self.score_tiles(images, leave_one_out)
        images = self.norm(images)
        prediction = self.network(images, self.scorer.reconstructs)
        return self.scorer(images, prediction, self.network.patch_scores(prediction), leave_one_out)

    def score_tiles(self, images: Tensor, leave_one_out: bool = False) -> Scores:
        """Scores images that are at least as large as the network by their tiles."""
        scores = self(cut(images, self.network.image_size), leave_one_out)
        return _join_tiles(scores, (images.shape[-2], images.shape[-1]), images.shape[0])

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        if not self.trains:
            return self.loss_of_nothing()
        images = self.norm(batch["image"])
        terms = self.loss(images, self.network(images))
        require_finite(terms, self.global_step)
        self._log_losses("train", terms._asdict(), batch)
        return terms.total

    def on_validation_epoch_start(self) -> None:
        if self.trains:
            self.scorer.reset()

    @in_full_precision
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        if self.held_out_nll is not None:
            self._log_losses("val", {"total": self.held_out_nll}, batch)
            return
        images = self.norm(cut(batch["image"], self.network.image_size))
        prediction = self.network(images)
        losses = self.loss(images, prediction)._asdict() if self.trains else {"total": prediction.nll()}
        self._log_losses("val", losses, batch)
        if self.trains:
            self.scorer.update(images, prediction, self.network.patch_scores(prediction))

    @in_full_precision
    def on_validation_epoch_end(self) -> None:
        if not self.trains:
            return
        self.scorer.finish()
        if not self.trainer.sanity_checking:
            loader = cast(DataLoader[Sample], self.trainer.val_dataloaders)
            batches = islice(loader, int(self.trainer.num_val_batches[0]))
            self.calibration.fit(partial(self, leave_one_out=True), batches)

    def test_step(self, batch: Sample, batch_idx: int) -> dict[str, Any]:
        own = slice(
            rank_sample_count(cast(DataLoader[Sample], self.trainer.test_dataloaders))
            - self.metrics.num_images
        )
        scores = self(batch["image"])
        self.metrics.update(
            categories_of(batch)[own],
            batch["kind"][own],
            scores.image[own],
            batch["label"][own],
            scores.map[own],
            batch["mask"][own],
            batch["has_mask"][own],
            brightness(batch["image"][own]),
        )
        return scores._asdict()

    def on_test_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        mode = getattr(data, "resize_mode", self.resize_mode)
        if mode != self.resize_mode:
            raise InputError(
                f"the detector was trained with resize_mode={self.resize_mode}, but the test data have "
                f"resize_mode={mode}"
            )
        categories = getattr(data, "categories", ("",))
        for category in categories:
            self.calibration.of(category)  # raises InputError if the detector does not know it
        self.metrics.reset(categories)
        self.metrics.to(self.device)

    def on_test_epoch_end(self) -> None:
        evaluations = {name: self._evaluate(metrics, name) for name, metrics in self.metrics.items()}
        several = len(evaluations) > 1
        self.evaluation = CategoryEvaluations(evaluations) if several else next(iter(evaluations.values()))
        self.log_dict(self.evaluation.metrics, sync_dist=True)  # the same in every process
        self.metrics.reset([""])

    def _evaluate(self, metrics: DetectionMetrics, category: str) -> Evaluation:
        calibration = self.calibration.of(category)
        evaluation = metrics.evaluate(calibration.image.value.item())
        alarms, peaks = evaluation.detected["false_alarms"], metrics.normal_peaks()
        marked = int((peaks > calibration.pixel.value).sum())
        notes = (
            normal_images_sentence(calibration, alarms, marked, len(peaks)),
            self.brightness_sentence(metrics.normal_brightness(), category),
        )
        return replace(evaluation, notes=tuple(filter(None, notes)))

    def brightness_sentence(self, levels: Tensor, category: str = "") -> str:
        """Says that images of these mean grey levels are lit unlike the training images; empty if not."""
        if isinstance(self.norm, EqualNorm):
            return ""
        return self.calibration.of(category).brightness.sentence(levels)

    def predict_step(self, batch: Sample, batch_idx: int) -> Scores:
        return self(batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        checkpoint["resize_mode"] = getattr(data, "resize_mode", self.resize_mode)
        checkpoint["categories"] = list(self.calibration.categories)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resize_mode = saved_resize_mode(checkpoint) or self.resize_mode
        self.calibration.set_categories(checkpoint.get("categories", ()))
        checkpoint["state_dict"] = self._without_unused_parts(checkpoint["state_dict"])

    def _without_unused_parts(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state without the parts that this detector lacks and that change none of its scores.

        Earlier versions trained and saved all parts always.
        """
        gate, weights = state.get("network.gate.loadings"), state.get("scorer.weights")
        gated = gate is not None and gate.numel() > 0
        reconstructs = weights is not None and bool(weights[1:].any())
        unused = () if gated else ("gate",) if reconstructs else _TRAINED_PARTS
        lacking = tuple(f"network.{name}." for name in unused if getattr(self.network, name, None) is None)
        return {name: value for name, value in state.items() if not name.startswith(lacking)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig | None:
        if not self.trains:
            return None
        optimizer = make_optimizer(self.network, self.optimizer_settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        return self.optimizer_settings.factor(step, self.trainer.estimated_stepping_batches)

    def _log_losses(self, stage: str, losses: Mapping[str, Tensor], batch: Sample) -> None:
        count = len(batch["label"])
        for name, value in losses.items():
            self.log(
                f"{stage}_loss" if name == "total" else f"{stage}_{name}",
                value,
                prog_bar=stage == "train" or name == "total",
                on_step=False,
                on_epoch=True,
                batch_size=count,
                sync_dist=True,
            )


def saved_resize_mode(checkpoint: Mapping[str, Any]) -> ResizeMode | None:
    """How the run of a checkpoint resized its images, if known; earlier versions called it `fit`."""
    mode: ResizeMode | None = checkpoint.get("resize_mode", checkpoint.get("fit"))
    return mode


def _join_tiles(scores: Scores, size: tuple[int, int], count: int = 1) -> Scores:
    """The scores of images of a size; an image has the largest score of its tiles."""
    return Scores(scores.image.unflatten(0, (count, -1)).amax(1), join(scores.map, size))


def _require_validation(unvalidated: Mapping[Path, int]) -> None:
    for folder, count in unvalidated.items():
        raise InputError(
            f"{folder} needs at least 3 different images, 2 of them for validation, because a network is "
            f"trained; it has {count}"
        )


def _require_size(size: tuple[int, int]) -> None:
    if min(size) < _MIN_SIDE:
        raise InputError(
            f"image_size is {size[0]}x{size[1]}; either side has to be {_MIN_SIDE} pixels or more"
        )

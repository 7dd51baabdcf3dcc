"""The density of patches that is fitted, and not trained: one expert or several."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.data_sized import DataSizedModule
from vtadl.common.precision import full_precision, in_full_precision
from vtadl.density.expert import Expert
from vtadl.density.mixture import Mixture
from vtadl.density.nearest import NearestWindows
from vtadl.density.projection import Projection
from vtadl.density.settings import DESCRIPTORS, Descriptor, ExpertSettings, Positions
from vtadl.features.cache import compute_features
from vtadl.features.energies import MultiscaleEnergies
from vtadl.features.extractor import FeatureExtractor

_FEATURES: Mapping[str, int] = {"backbone": 200}  # principal components; 64 of other descriptors
_CHUNK = 16  # images whose features are computed at once
# Names in the state of earlier versions, whose dictionaries had one expert.
_OLD_NAMES = {"log_weights": "logits", "factors": "whitening"}
_OLD_EXPERT_NAMES = ("whitening", "centre", "rotation", "logits", "mu", "log_std")


AnyExpert = Expert | NearestWindows


class Member(NamedTuple):
    """An expert with its weight, and the moments of its scores of normal windows."""

    expert: AnyExpert
    weight: float = 1.0
    mean: float = 0.0
    deviation: float = 1.0


class Dictionary(DataSizedModule):
    """Experts, each a density of the features of one descriptor, and the weights of their scores.

    The score of a window is the weighted sum of the scores of the experts. Each is counted in standard
    deviations of held-out normal windows, because an expert that varies among normal images says little.
    """

    @full_precision()
    def __init__(
        self,
        extractors: Mapping[Descriptor, FeatureExtractor],
        features: int | None = None,
        trained: bool = False,
    ) -> None:
        """Makes a dictionary without experts.

        Args:
            extractors: The features of each descriptor.
            features: Principal components of each; by default 64 of windows, and 200 of a backbone.
            trained: Whether the components of an expert are trained after they are fitted.
        """
        super().__init__()
        self.extractors = nn.ModuleDict({str(name): extractor for name, extractor in extractors.items()})
        self.projections = nn.ModuleDict(
            {str(name): Projection(features or _FEATURES.get(name, 64)) for name in extractors}
        )
        self.grid = max((extractor.grid for extractor in extractors.values()), key=math.prod)
        self.trained = trained
        self.experts = nn.ModuleList()
        for name in ("weights", "means", "deviations"):
            self.register_buffer(name, torch.zeros(0))
        self.weights: Tensor  # [E] of the experts
        self.means: Tensor  # [E] of the scores of normal windows
        self.deviations: Tensor  # [E]

    @property
    def fitted(self) -> bool:
        return len(self.experts) > 0

    @property
    def expert(self) -> Expert:
        """The expert of a dictionary that has one, which alone can be gated or trained."""
        (expert,) = self._experts()
        assert isinstance(expert, Expert)
        return expert

    def _experts(self) -> list[AnyExpert]:
        return cast(list[AnyExpert], list(self.experts))

    @property
    def descriptors(self) -> frozenset[Descriptor]:
        return frozenset(name for name in DESCRIPTORS if name in self.extractors)

    def extractor(self, descriptor: Descriptor) -> FeatureExtractor:
        return cast(FeatureExtractor, self.extractors[descriptor])

    def projection(self, descriptor: Descriptor) -> Projection:
        return cast(Projection, self.projections[descriptor])

    @torch.no_grad()
    @in_full_precision
    def fit_projection(self, images: Tensor, descriptor: Descriptor) -> Tensor:
        """Fits the principal components of a descriptor to normal images [N, C, H, W].

        Returns:
            The coefficients [N, P, D] of the images; their features are computed once.
        """
        extractor, projection = self.extractor(descriptor), self.projection(descriptor)
        extractor.fit(images)
        features = compute_features(extractor, images, doing=f"computing {descriptor} of the images")
        projection.fit(features)
        return torch.cat([projection(chunk) for chunk in features.split(_CHUNK)])

    @in_full_precision
    def pca_coefficients(self, images: Tensor, descriptor: Descriptor) -> Tensor:
        """Coefficients [N, P, D] of the principal components of images [N, C, H, W], before whitening."""
        return torch.cat([self._coefficients(chunk, descriptor) for chunk in images.split(_CHUNK)])

    def _coefficients(self, images: Tensor, descriptor: Descriptor) -> Tensor:
        return cast(Tensor, self.projection(descriptor)(self.extractor(descriptor)(images)))

    def fit(self, images: Tensor, settings: ExpertSettings, background: Tensor | None = None) -> None:
        """Fits a single expert to normal images [N, C, H, W], with a background of pictures [M, C, H, W]."""
        coefficients = self.fit_projection(images, settings.descriptor)
        pictures = None if background is None else self.pca_coefficients(background, settings.descriptor)
        self.set_members([Member(self.fit_expert(coefficients, settings, background=pictures))])

    def fit_expert(self, coefficients: Tensor, settings: ExpertSettings, **options: Any) -> AnyExpert:
        """Fits an expert to the PCA coefficients [N, P, D] of normal images, see :meth:`Expert.fit`."""
        projection = self.projection(settings.descriptor)
        expert = self._make_expert(settings.descriptor, settings.positions)
        if isinstance(expert, NearestWindows):
            expert.fit(coefficients, projection, settings)
        else:
            expert.fit(coefficients, projection, settings, **options)
        return expert

    def _make_expert(self, descriptor: Descriptor, positions: Positions) -> AnyExpert:
        if positions == "near":
            return NearestWindows(descriptor, self.extractor(descriptor).grid)
        return Expert(descriptor, self.trained)

    def set_members(self, members: Sequence[Member]) -> None:
        """Takes fitted experts, and drops the descriptors that none of them uses."""
        self._set_experts([member.expert for member in members])
        weights = torch.tensor([member.weight for member in members])
        self.weights = (weights / weights.sum()).to(members[0].expert.whitening.device)
        self.means, self.deviations = (
            torch.tensor([getattr(member, name) for member in members]).to(self.weights)
            for name in ("mean", "deviation")
        )

    def _set_experts(self, experts: Sequence[AnyExpert]) -> None:
        self.experts = nn.ModuleList(experts)
        used = [expert.descriptor for expert in experts]
        for name in [name for name in self.extractors if name not in used]:
            del self.extractors[name], self.projections[name]

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Scores [B, rows, columns] of the windows of images [B, C, H, W].

        Raises:
            RuntimeError: If the dictionary has not been fitted.
        """
        self._require_fitted()
        features = self._features(images)
        coefficients = {name: self.projection(name)(values) for name, values in features.items()}
        return self.combine(self._experts(), coefficients)

    def _features(self, images: Tensor) -> dict[Descriptor, Tensor]:
        """Features by descriptor; the energies that two descriptors have in common are computed once."""
        features: dict[Descriptor, Tensor] = {}
        for name in (name for name in DESCRIPTORS if name in self.extractors):
            extractor = self.extractor(name)
            knows_fine = isinstance(extractor, MultiscaleEnergies) and "energies" in features
            features[name] = extractor(images, features["energies"]) if knows_fine else extractor(images)
        return features

    @in_full_precision
    def combine(self, experts: Sequence[AnyExpert], coefficients: Mapping[Descriptor, Tensor]) -> Tensor:
        """Scores [B, rows, columns] of windows with these PCA coefficients [B, P, D], by descriptor.

        `experts` have the settings of the dictionary's own, and may have been fitted to other images.
        """
        scores = [
            self.on_grid(expert(coefficients[expert.descriptor]), expert.descriptor) for expert in experts
        ]
        if len(scores) == 1:
            return scores[0]
        moments = zip(scores, self.weights, self.means, self.deviations, strict=True)
        return torch.stack([weight * (x - mean) / std for x, weight, mean, std in moments]).sum(0)

    @in_full_precision
    def features(self, images: Tensor) -> Tensor:
        """Features [B, P, D] of images [B, C, H, W], whose density :meth:`mixture` is.

        Raises:
            RuntimeError: If the dictionary has not been fitted.
        """
        self._require_fitted()
        return self.expert.to_features(self._coefficients(images, self.expert.descriptor))

    def mixture(self, offsets: Tensor | None = None) -> Mixture:
        """The mixtures of the single expert; `offsets` [B, P, K] are added to the logits."""
        return self.expert.mixture(offsets)

    def on_grid(self, scores: Tensor, descriptor: Descriptor) -> Tensor:
        """Scores [B, P] of a descriptor at the finest grid of the descriptors, [B, rows, columns]."""
        grid = self.extractor(descriptor).grid
        scores = scores.unflatten(1, grid)
        if grid == self.grid:
            return scores
        return F.interpolate(scores[:, None], self.grid, mode="bilinear")[:, 0]

    def _require_fitted(self) -> None:
        if not self.fitted:
            raise RuntimeError("the dictionary is not fitted: train the detector, or load a checkpoint")

    def get_extra_state(self) -> Tensor:
        """The descriptor of each expert, and whether it is of nearest windows [E, 2], for checkpoints."""
        return torch.tensor([_code(expert) for expert in self._experts()])

    def set_extra_state(self, state: Tensor) -> None:
        """Does nothing: the experts exist already when their state is loaded."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        if state_dict.get(f"{prefix}_extra_state", torch.zeros(1)).dim() == 0:
            self._translate_old_state(state_dict, prefix)
        codes = [tuple(code) for code in state_dict.get(f"{prefix}_extra_state", torch.zeros(0)).tolist()]
        if codes != [_code(expert) for expert in self._experts()]:
            kinds = [(DESCRIPTORS[index], near) for index, near in codes]
            self._set_experts([self._make_expert(name, "near" if near else "own") for name, near in kinds])
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _translate_old_state(self, state: dict[str, Any], prefix: str) -> None:
        """Renames the entries of the state of an earlier version, whose extra state is a number."""
        index = int(state[f"{prefix}_extra_state"])
        descriptor: Descriptor = "backbone" if "backbone" in self.extractors else DESCRIPTORS[index]
        for name in [name for name in state if name.startswith(prefix)]:
            own = name.removeprefix(prefix).replace("extractors.pretrained.", "extractors.backbone.")
            own = _OLD_NAMES.get(own, own)
            if own in _OLD_EXPERT_NAMES or own.startswith("background_"):
                own = f"experts.0.{own}"
            if own.startswith("projection."):
                own = own.replace("projection.", f"projections.{descriptor}.", 1)
            value = state.pop(name)
            if not own.startswith("extractors.") or own.startswith(f"extractors.{descriptor}."):
                state[prefix + own] = value
        state[f"{prefix}_extra_state"] = torch.tensor([[DESCRIPTORS.index(descriptor), 0]])
        state |= {f"{prefix}weights": torch.ones(1), f"{prefix}means": torch.zeros(1)}
        state[f"{prefix}deviations"] = torch.ones(1)


def _code(expert: AnyExpert) -> tuple[int, int]:
    return DESCRIPTORS.index(expert.descriptor), int(isinstance(expert, NearestWindows))

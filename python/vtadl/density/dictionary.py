"""A mixture whose components stay near real normal windows."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.density.em import fit_mixtures
from vtadl.density.extractor import FeatureExtractor
from vtadl.density.mixture import Mixture
from vtadl.density.projection import Projection
from vtadl.density.resizing import Resizing
from vtadl.density.settings import Descriptor, DictionarySettings, Positions

_BACKGROUND_COMPONENTS = 200
_CHUNK = 16


class Dictionary(Resizing):
    """Gaussian mixtures of the features at each position of a grid, or one mixture for all positions.

    With mixtures of their own, each position's features are turned onto its principal axes, so that
    diagonal components know the correlations there.

    With a background, one more mixture is the density of images of any kind, and the ratio of both says how
    unlike normal ones a window is (Ren et al., "Likelihood ratios for out-of-distribution detection", 2019).
    What both find likely, as smooth windows, does not count then. Of the energy that the principal components
    leave out, the background knows nothing: a colour among grey images is as unlikely as without it.
    """

    @full_precision()
    def __init__(
        self, extractors: Mapping[Descriptor, FeatureExtractor], features: int, trained: bool = False
    ) -> None:
        super().__init__()
        self.extractors = nn.ModuleDict({str(name): extractor for name, extractor in extractors.items()})
        self.descriptors: tuple[Descriptor, ...] = tuple(extractors)
        self.descriptor = self.descriptors[0]
        self.projection = Projection(features)
        for name, dims in (("factors", 1), ("centre", 2), ("rotation", 3)):
            self.register_buffer(name, torch.zeros((0,) * dims))
        self.factors: Tensor  # [D]
        self.centre: Tensor  # [P, D] or [1, D]
        self.rotation: Tensor  # [P, D, D], or [1, 0, 0] for none
        self.log_weights = nn.Parameter(torch.zeros(0, 0), requires_grad=False)  # [P, K] or [1, K]
        self.mu = nn.Parameter(torch.zeros(0, 0, 0), requires_grad=trained)  # [P, K, D] or [1, K, D]
        self.log_std = nn.Parameter(torch.zeros(0, 0, 0), requires_grad=trained)
        for name, dims in (("logits", 1), ("mu", 2), ("log_std", 2)):
            self.register_buffer(f"background_{name}", torch.zeros((0,) * dims))
        self.background_logits: Tensor  # [K], or [0] for none
        self.background_mu: Tensor  # [K, D - 1]
        self.background_log_std: Tensor  # [K, D - 1]

    @property
    def extractor(self) -> FeatureExtractor:
        """Of the chosen descriptor."""
        return self.extractors[self.descriptor]  # type: ignore[return-value]

    @property
    def grid(self) -> tuple[int, int]:
        return self.extractor.grid

    @property
    def fitted(self) -> bool:
        return self.mu.numel() > 0

    @property
    def aligned(self) -> bool:
        """Whether each position has mixtures of its own."""
        return self.rotation.numel() > 0

    def get_extra_state(self) -> Tensor:
        """The number of the descriptor, which the checkpoint keeps."""
        return torch.tensor(self.descriptors.index(self.descriptor))

    def set_extra_state(self, state: Tensor) -> None:
        self.descriptor = self.descriptors[int(state)]

    @torch.no_grad()
    @in_full_precision
    def describe(self, images: Tensor, descriptor: Descriptor) -> None:
        """Takes a descriptor, and its principal components from normal images [N, C, H, W]."""
        self.descriptor = descriptor
        self.extractor.fit(images)
        self.projection.fit(images, self.extractor)

    @torch.no_grad()
    @in_full_precision
    def components_of(self, images: Tensor) -> Tensor:
        """Principal components [N, P, D] of images [N, C, H, W], before whitening."""
        return torch.cat([self.projection(self.extractor(chunk)) for chunk in images.split(_CHUNK)])

    @torch.no_grad()
    @in_full_precision
    def fit(
        self,
        components: Tensor,
        settings: DictionarySettings,
        seed: int = 0,
        steps: int = 10,
        windows: int = 150_000,
        background: Tensor | None = None,
    ) -> None:
        """Fits the mixtures to the principal components [N, P, D] of normal images.

        Args:
            components: Of normal images.
            settings: What to fit.
            seed: Of the samples, and of the first means.
            steps: Of EM.
            windows: That a mixture for all positions is fitted to, at most.
            background: Principal components of images of any kind, where the settings ask for a background.

        Raises:
            ValueError: If the settings ask for a background and none is given.
        """
        if settings.background == "none":
            background = None
        elif background is None:
            raise ValueError(f"background is None, and the settings ask for {settings.background}")
        generator = torch.Generator().manual_seed(seed)
        self.factors = self.projection.whitening(settings.softness)
        self._turn(components * self.factors, settings.positions)
        x = self.features_of(components)
        if settings.positions == "shared":
            x = _sample_windows(x, windows, generator)
        mixture = fit_mixtures(x, settings.components, settings.min_std, steps, generator)
        self.replace("log_weights", mixture.logits)
        self.replace("mu", mixture.mu)
        self.replace("log_std", mixture.scale.log())
        logits, mu, log_std = (x.new_zeros((0,) * dims) for dims in (1, 2, 2))
        if background is not None:
            x = _sample_windows(_explained(background * self.factors), windows, generator)
            mixture = fit_mixtures(x, _BACKGROUND_COMPONENTS, settings.min_std, steps, generator)
            logits, mu, log_std = mixture.logits[0], mixture.mu[0], mixture.scale[0].log()
        self.background_logits, self.background_mu, self.background_log_std = logits, mu, log_std

    def _turn(self, x: Tensor, positions: Positions) -> None:
        if positions == "shared":
            self.centre, self.rotation = x.new_zeros(1, x.shape[-1]), x.new_zeros(1, 0, 0)
            return
        self.centre = x.mean(0)
        samples = (x - self.centre).transpose(0, 1)  # [P, N, D]
        covariance = samples.transpose(1, 2) @ samples / len(x)
        self.rotation = torch.linalg.eigh(covariance.double()).eigenvectors.float()

    @in_full_precision
    def features_of(self, components: Tensor) -> Tensor:
        """Principal components [B, P, D] to what the mixture is the density of."""
        x = components * self.factors - self.centre
        return torch.einsum("bpd,pde->bpe", x, self.rotation) if self.aligned else x

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Features [B, P, D] of images [B, C, H, W].

        Raises:
            RuntimeError: If it has not been fitted.
        """
        if not self.fitted:
            raise RuntimeError("the dictionary is not fitted: train the detector, or load a checkpoint")
        return self.features_of(self.projection(self.extractor(images)))

    def mixture(self, offsets: Tensor | None = None) -> Mixture:
        """The mixtures [P, K, D] or [1, K, D]; `offsets` [B, P, K] are added to the log-weights."""
        logits = self.log_weights if offsets is None else self.log_weights + offsets
        return Mixture(logits, self.mu, self.log_std)

    @in_full_precision
    def background_nll(self, features: Tensor) -> Tensor | float:
        """Of features [B, P, D] under the background, [B, P]; 0 without one."""
        if not self.background_logits.numel():
            return 0.0
        x = (
            torch.einsum("bpe,pde->bpd", features, self.rotation) if self.aligned else features
        ) + self.centre
        background = Mixture(self.background_logits, self.background_mu, self.background_log_std)
        return background.nll(_explained(x), "none")

    @torch.no_grad()
    @in_full_precision
    def scores(self, components: Tensor) -> Tensor:
        """Negative log-likelihood [N, P] in nats, less that of the background, given principal components."""
        features = map(self.features_of, components.split(_CHUNK))
        return torch.cat([self.mixture().nll(x, "none") - self.background_nll(x) for x in features])


def _explained(x: Tensor) -> Tensor:
    """Features [..., D] without the last, the energy that the principal components leave out."""
    return x[..., :-1]


def _sample_windows(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` windows of any position of features [N, P, D]: [count, 1, D]."""
    windows = x.flatten(0, 1)
    return windows[torch.randperm(len(windows), generator=generator)[:count], None]

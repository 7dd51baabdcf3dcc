"""One density of patches: Gaussian mixtures of the coefficients of one descriptor."""

import torch
from torch import Tensor, nn

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.density.em import fit_mixtures
from vtadl.density.mixture import Mixture
from vtadl.density.projection import Projection
from vtadl.density.settings import Descriptor, ExpertSettings, Positions
from vtadl.density.window_density import WindowDensity

_BACKGROUND_COMPONENTS = 200
_SHRINKAGE = 20.0  # weight of the covariance of all positions, in images


class Expert(WindowDensity):
    """Gaussian mixtures of the features at each position of a grid, or one mixture for all positions.

    If each position has its own mixture, its features are rotated onto the principal axes at that position,
    so that diagonal components represent the correlations there: a single component is a full Gaussian.

    A background is one more mixture, fitted to images of other subjects. The likelihood ratio of both
    mixtures is then the measure of how abnormal a window is (Ren et al., "Likelihood ratios for
    out-of-distribution detection", 2019). Windows that both find likely, such as smooth ones, do not count.
    The background ignores the residual energy, the last feature: a colour among grey images is as unlikely as
    without a background.
    """

    @full_precision()
    def __init__(self, descriptor: Descriptor, trained: bool = False) -> None:
        super().__init__()
        self.descriptor = descriptor
        for name, dims in (("whitening", 1), ("centre", 2), ("rotation", 3)):
            self.register_buffer(name, torch.zeros((0,) * dims))
        self.whitening: Tensor  # [D]
        self.centre: Tensor  # [P, D] or [1, D]
        self.rotation: Tensor  # [P, D, D], or [1, 0, 0] for none
        self.logits = nn.Parameter(torch.zeros(0, 0), requires_grad=False)  # [P, K] or [1, K]
        self.mu = nn.Parameter(torch.zeros(0, 0, 0), requires_grad=trained)  # [P, K, D] or [1, K, D]
        self.log_std = nn.Parameter(torch.zeros(0, 0, 0), requires_grad=trained)
        for name, dims in (("logits", 1), ("mu", 2), ("log_std", 2)):
            self.register_buffer(f"background_{name}", torch.zeros((0,) * dims))
        self.background_logits: Tensor  # [K], or [0] for none
        self.background_mu: Tensor  # [K, D - 1]
        self.background_log_std: Tensor  # [K, D - 1]

    @property
    def aligned(self) -> bool:
        """Whether each position has its own mixture."""
        return self.rotation.numel() > 0

    @torch.no_grad()
    @in_full_precision
    def fit(
        self,
        coefficients: Tensor,
        projection: Projection,
        settings: ExpertSettings,
        seed: int = 0,
        steps: int = 10,
        max_windows: int = 150_000,
        background: Tensor | None = None,
    ) -> None:
        """Fits the mixtures to the PCA coefficients [N, P, D] of normal images.

        Args:
            coefficients: PCA coefficients of normal images.
            projection: The projection that they come from.
            settings: Settings of the mixtures.
            seed: Seed of the random windows and initial means.
            steps: Number of EM steps.
            max_windows: Largest number of windows that a mixture of all positions is fitted to.
            background: PCA coefficients of images of other subjects, if the settings ask for a background.

        Raises:
            ValueError: If the settings ask for a background and none is given.
        """
        if settings.background == "none":
            background = None
        elif background is None:
            raise ValueError(f"background is None, and the settings ask for {settings.background}")
        generator = torch.Generator().manual_seed(seed)
        self.whitening = projection.whitening(settings.softness)
        variances = self._fit_axes(coefficients * self.whitening, settings.positions)
        if variances is not None and settings.components == 1:
            mixture = _gaussians(variances, settings.min_std)
        else:
            x = self.to_features(coefficients)
            if settings.positions == "shared":
                x = _sample_windows(x, max_windows, generator)
            mixture = fit_mixtures(x, settings.components, settings.min_std, steps, generator)
        self.replace("logits", mixture.logits)
        self.replace("mu", mixture.mu)
        self.replace("log_std", mixture.scale.log())
        logits, mu, log_std = (coefficients.new_zeros((0,) * dims) for dims in (1, 2, 2))
        if background is not None:
            x = _sample_windows(_without_residual(background * self.whitening), max_windows, generator)
            mixture = fit_mixtures(x, _BACKGROUND_COMPONENTS, settings.min_std, steps, generator)
            logits, mu, log_std = mixture.logits[0], mixture.mu[0], mixture.scale[0].log()
        self.background_logits, self.background_mu, self.background_log_std = logits, mu, log_std

    def take_background(self, other: "Expert") -> None:
        """Takes the background of an expert of the same descriptor and settings."""
        for name in ("background_logits", "background_mu", "background_log_std"):
            setattr(self, name, getattr(other, name))

    def _fit_axes(self, x: Tensor, positions: Positions) -> Tensor | None:
        """Finds the mean and the principal axes at each position of whitened features [N, P, D].

        Returns:
            The variances along the axes [P, D], if each position has its own mixture.
        """
        if positions == "shared":
            self.centre, self.rotation = x.new_zeros(1, x.shape[-1]), x.new_zeros(1, 0, 0)
            return None
        self.centre = x.mean(0)
        variances, axes = torch.linalg.eigh(shrunk_covariances(x).double())
        self.rotation = axes.float()
        return variances.clamp(min=0).float()

    @in_full_precision
    def to_features(self, coefficients: Tensor) -> Tensor:
        """Turns PCA coefficients [B, P, D] into the features whose density the mixture is."""
        x = coefficients * self.whitening - self.centre
        return torch.einsum("bpd,pde->bpe", x, self.rotation) if self.aligned else x

    def mixture(self, offsets: Tensor | None = None) -> Mixture:
        """The mixtures [P, K, D] or [1, K, D]; `offsets` [B, P, K] are added to the logits."""
        logits = self.logits if offsets is None else self.logits + offsets
        return Mixture(logits, self.mu, self.log_std)

    @in_full_precision
    def background_nll(self, features: Tensor) -> Tensor | float:
        """NLL [B, P] of features [B, P, D] under the background; 0 without a background."""
        if not self.background_logits.numel():
            return 0.0
        x = (
            torch.einsum("bpe,pde->bpd", features, self.rotation) if self.aligned else features
        ) + self.centre
        background = Mixture(self.background_logits, self.background_mu, self.background_log_std)
        return background.nll(_without_residual(x), "none")

    @in_full_precision
    def forward(self, coefficients: Tensor) -> Tensor:
        """NLL [B, P] in nats, minus that of the background, of PCA coefficients [B, P, D]."""
        features = self.to_features(coefficients)
        return self.mixture().nll(features, "none") - self.background_nll(features)


def shrunk_covariances(x: Tensor) -> Tensor:
    """Covariances [P, D, D] at each position of features [N, P, D], shrunk to that of all positions.

    The target counts as much as twenty images. It is the mean covariance within the positions, which is known
    well even from few images; a single image shows the variance between positions only, half of which then
    stands for it.
    """
    count = len(x)
    centred = (x - x.mean(0)).transpose(0, 1)  # [P, N, D]
    scatter = centred.transpose(1, 2) @ centred
    windows = (x - x.mean((0, 1))).flatten(0, 1)
    between = windows.T @ windows / (2 * len(windows))
    within = scatter.mean(0) / max(count - 1, 1)
    target = within + (between - within) / count
    return (scatter + _SHRINKAGE * target) / (count + _SHRINKAGE)


def _gaussians(variances: Tensor, min_std: float) -> Mixture:
    """Mixtures of one component around 0, with variances [P, D] along the axes."""
    mu = torch.zeros_like(variances)[:, None]
    return Mixture(mu[..., 0], mu, (variances[:, None] + min_std**2).sqrt(), scale_param="std")


def _without_residual(x: Tensor) -> Tensor:
    """Features [..., D] without the last one, the residual energy."""
    return x[..., :-1]


def _sample_windows(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws up to `count` windows [count, 1, D] from all positions of features [N, P, D]."""
    windows = x.flatten(0, 1)
    return windows[torch.randperm(len(windows), generator=generator)[:count], None]

"""The settings of the density of patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.errors import InputError
from vtadl.features.input_size import InputSize
from vtadl.images.tiles import as_pair

Likelihood = Literal["dictionary", "paper", "public-code"]
Descriptor = Literal["energies", "pixels", "multiscale-energies", "backbone"]
DESCRIPTORS: tuple[Descriptor, ...] = get_args(Descriptor)
Positions = Literal["own", "shared", "near"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)
Background = Literal["none", "pictures"]
Symmetry = Literal["none", "half-turn", "mirror-x", "mirror-y", "mirrors", "quarter-turns", "all"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "likelihood": get_args(Likelihood),
    "descriptor": DESCRIPTORS,
    "positions": POSITIONS,
    "background": get_args(Background),
    "symmetry": get_args(Symmetry),
}


@dataclass(frozen=True)
class DensitySettings:
    """The density of patches; settings of a dictionary that are null (None) are chosen from normal images.

    Args:
        likelihood: `dictionary` for components that stay near normal windows, `paper` for a mixture
            predicted for each token, `public-code` for the published code's weighted sum.
        descriptor: Whether an expert is a density of local means and the logarithms of local `energies`, of
            these at two scales (`multiscale-energies`), of windows of `pixels`, or of the features of the
            `backbone`.
        positions: Whether each position of an expert has its own mixture, or all positions share one; `near`
            is the distance to the nearest normal window at the position or beside it, without a mixture.
        components: Gaussians in a mixture; 10 if null (None) with a likelihood that is not `dictionary`.
        min_std: Smallest standard deviation of a component, where that of the leading feature is about 1.
            With `paper`, where that of the tokens is 1, it is 0.1 if null (None).
        softness: Softness of the whitening; at 0 all features have unit variance.
        background: Whether an expert's likelihood counts alone (`none`), or relative to that among
            `pictures`, synthetic textures and photographs of other subjects.
        symmetry: Turns and mirrorings under which normal images stay normal: by 180 degrees (`half-turn`),
            left to right (`mirror-x`), upside down (`mirror-y`), these three (`mirrors`), by 90, 180 and 270
            degrees (`quarter-turns`), or `all`; the last two need square images. Fewer than 400 images are
            supplemented by such ones. If null (None), it is found from the images, if there are 16 or more.
        stride: Pixels from one window to the next; if null (None), an image has about 32 windows a side.
        window: Side of a window, in pixels of its scale.
        scales: How many pixels a side are averaged to one pixel of a window.
        features: Principal components of the features; if null (None), 64 of windows, and 200 of a backbone.
        gated: Whether the transformer predicts which of the dictionary's components an image shows; null
            (None) means no.
        trained: Whether the dictionary's components are trained too, after they are fitted.
        backbone: Frozen network whose features the dictionary describes instead of windows:
            `dinov2-small`; the folder or the name of another vision transformer of `transformers`;
            `efficientnet-lite0`; or the path of a class, such as package.module.Class, whose forward method
            returns one map or several for images that are normalised as those of ImageNet.
        backbone_layers: Hidden states or blocks of the backbone to use; null (None) for the middle ones.
        backbone_size: Height and width of the backbone's input, or one number for both; `trained` for that
            of its training. If null (None), the shorter side is 336 pixels for a transformer, and 256 for
            other networks.
        backbone_config: Architecture of the backbone. Checkpoints hold it, so that they can be loaded where
            the backbone's source is missing.

    Raises:
        InputError: If a number is out of range, a name is unknown, or the features lack the descriptor.
    """

    likelihood: Likelihood = "dictionary"
    descriptor: Descriptor | None = None
    positions: Positions | None = None
    components: int | None = None
    min_std: float | None = None
    softness: float | None = None
    background: Background | None = None
    symmetry: Symmetry | None = None
    stride: int | None = None
    window: int = 8
    scales: Sequence[int] = (1, 2)
    features: int | None = None
    gated: bool | None = None
    trained: bool = False
    backbone: str | None = None
    backbone_layers: Sequence[int] | None = None
    backbone_size: InputSize = None
    backbone_config: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, values in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                raise InputError(f"{name} is {value!r}; it has to be one of {', '.join(values)}")
        require_positive(components=self.components, features=self.features, stride=self.stride)
        require_positive(scales=len(self.scales))
        require_not_negative(min_std=self.min_std, softness=self.softness)
        require_at_most(1000, scales=len(self.scales))
        require_at_most(65536, components=self.components, window=self.window)
        if self.backbone_size is not None and self.backbone_size != "trained":
            sides = as_pair(self.backbone_size)
            require_positive(backbone_size=min(sides))
            require_at_most(4096, backbone_size=max(sides))
        if self.likelihood == "dictionary" and self.descriptor == "backbone" and not self.backbone:
            raise InputError("descriptor is backbone, and there is no backbone")
        if self.trains and self.likelihood == "dictionary" and self.positions == "near":
            raise InputError("positions is near, which has no mixture that could be gated or trained")

    @property
    def trains(self) -> bool:
        """Whether a part of the density is trained: predicted mixtures, a gate or fitted components."""
        return self.likelihood != "dictionary" or bool(self.gated) or self.trained

    @property
    def given(self) -> dict[str, Any]:
        """The settings of experts that are given, and not chosen."""
        values = {name: getattr(self, name) for name in ExpertSettings._fields}
        return {name: value for name, value in values.items() if value is not None}


class ExpertSettings(NamedTuple):
    """The settings of one expert of a dictionary, see :class:`DensitySettings`."""

    descriptor: Descriptor = "energies"
    positions: Positions = "own"
    components: int = 20
    min_std: float = 0.1
    softness: float = 0.03
    background: Background = "none"

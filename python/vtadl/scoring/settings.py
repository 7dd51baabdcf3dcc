"""The settings of scores and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vtadl.common.ranges import require_fraction, require_not_negative, require_positive
from vtadl.density import Likelihood
from vtadl.errors import InputError

Term = Literal["nll", "mse", "dissimilarity"]
TERMS: tuple[Term, ...] = ("nll", "mse", "dissimilarity")


@dataclass(frozen=True)
class ScoringSettings:
    """Scores, maps and thresholds.

    Args:
        terms: The terms whose average is the score; if null (None), the NLL alone with a dictionary, and all
            terms with a predicted mixture.
        normalised: Whether the score of each position is counted in standard deviations of normal images at
            that position, to which the density was not fitted; null (None) means no. It takes 16 such images
            or more.
        top_patches: How many patches, those of the largest NLL, determine the score of an image.
        smoothing: Standard deviation of the Gaussian filter over the map, in pixels.
        image_false_alarm_rate: Fraction of normal images that may exceed the threshold of images, which holds
            with 90 % confidence if there are enough images.
        pixel_false_alarm_rate: Fraction of their pixels that may exceed the threshold of pixels, on average.

    Raises:
        InputError: If there are no terms, or a number is out of its range.
    """

    terms: Sequence[Term] | None = None
    normalised: bool | None = None
    top_patches: int = 10
    smoothing: float = 3.0
    image_false_alarm_rate: float = 0.01
    pixel_false_alarm_rate: float = 0.01

    def __post_init__(self) -> None:
        require_positive(top_patches=self.top_patches)
        require_not_negative(smoothing=self.smoothing)
        require_fraction(image_false_alarm_rate=self.image_false_alarm_rate)
        require_fraction(pixel_false_alarm_rate=self.pixel_false_alarm_rate)
        if self.terms is not None and not self.terms:
            raise InputError("terms is empty; without any there is no score")

    @property
    def reconstructs(self) -> bool:
        """Whether a term of the reconstruction is given."""
        return self.terms is not None and set(self.terms) != {"nll"}

    def terms_with(self, likelihood: Likelihood) -> tuple[Term, ...]:
        """The terms of the score with a likelihood."""
        if self.terms is not None:
            return tuple(self.terms)
        return TERMS[:1] if likelihood == "dictionary" else TERMS

"""The data sets by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from benchmarks.choice.drawn import SUBJECTS, draw_set
from benchmarks.choice.images import DataSet, dimmed, read
from vtadl.data import TEXTURES, MNISTDigit, MVTecAD, Texture, TextureDefects
from vtadl.errors import InputError

_DIMMED = "dimmed-"  # prefix of names
_DIGITS = {f"digit-{digit}": digit for digit in range(10)}
_DEFAULT_DIGITS = ("digit-3", "digit-8")
_MAX_DIGITS, _MAX_TESTED_DIGITS = 500, 1000


@dataclass(frozen=True)
class Sets:
    """Data sets that are always at hand, and those of folders that may be given."""

    root: Path | None = None  # of categories in the layout of MVTec AD
    mnist: Path | None = None
    image_size: int = 256  # of the categories

    def names(self) -> list[str]:
        """All sets, but neither the other digits nor dimmed ones."""
        folders = sorted(self.root.glob("*/train/good")) if self.root else []
        categories = [folder.parents[1].name for folder in folders]
        return [*categories, *TEXTURES, *SUBJECTS, *(_DEFAULT_DIGITS if self.mnist else ())]

    def load(self, name: str, seed: int) -> DataSet:
        """Draws or reads a set; its name may have the prefix `dimmed-`.

        Raises:
            InputError: If there is no set of this name.
        """
        if name.startswith(_DIMMED):
            return dimmed(self.load(name.removeprefix(_DIMMED), seed), seed)
        if name in SUBJECTS:
            return draw_set(name, seed)
        if name in TEXTURES:
            return read(TextureDefects(cast(Texture, name), image_size=128, seed=seed))
        if name in _DIGITS and self.mnist:
            data = MNISTDigit(str(self.mnist), _DIGITS[name], seed=seed)
            return read(data, _MAX_DIGITS, _MAX_TESTED_DIGITS)
        if self.root:
            return read(MVTecAD(str(self.root), name, image_size=self.image_size, seed=seed))
        raise InputError(f"there is no data set {name}; there are {', '.join(self.names())}")

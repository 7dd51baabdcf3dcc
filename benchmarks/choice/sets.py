"""The data sets by name."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.choice.drawn import SUBJECTS, draw_set
from benchmarks.choice.images import DataSet, dimmed, read
from vtadl.data import TEXTURES, MNISTDigit, MVTecAD, TextureDefects
from vtadl.errors import InputError

DIMMED, DIGIT = "dimmed-", "digit-"  # prefixes of names
_DIGITS = (f"{DIGIT}3", f"{DIGIT}8")
_TEXTURES = {name: name for name in TEXTURES}
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
        return [*categories, *TEXTURES, *SUBJECTS, *(_DIGITS if self.mnist else ())]

    def load(self, name: str, seed: int) -> DataSet:
        """Draws or reads a set; its name may have the prefix `dimmed-`.

        Raises:
            InputError: If there is no set of this name.
        """
        if name.startswith(DIMMED):
            return dimmed(self.load(name.removeprefix(DIMMED), seed), seed)
        if name in SUBJECTS:
            return draw_set(name, seed)
        if name in _TEXTURES:
            return read(TextureDefects(_TEXTURES[name], image_size=128, train_count=256, seed=seed))
        if name.startswith(DIGIT) and self.mnist:
            data = MNISTDigit(str(self.mnist), int(name.removeprefix(DIGIT)), seed=seed)
            return read(data, _MAX_DIGITS, _MAX_TESTED_DIGITS)
        if self.root:
            return read(MVTecAD(str(self.root), name, image_size=self.image_size, seed=seed))
        raise InputError(f"there is no data set {name}; there are {', '.join(self.names())}")

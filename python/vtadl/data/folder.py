"""Images in any layout, named by globs."""

from pathlib import Path
from typing import Any

from vtadl.data.file_module import FileDataModule, draw
from vtadl.data.images import list_images
from vtadl.data.records import Record, pair_masks
from vtadl.errors import InputError
from vtadl.ranges import require_fraction


class Folder(FileDataModule):
    """Good images, optional bad ones, and optional masks of the bad ones, each by a glob below a folder.

    A mask belongs to the bad image that has the same path below the part of its glob without wildcards, but
    for the suffix and for `_mask` at the end of the mask's name: with `anomalous=bad/**/*` and
    `masks=masks/**/*`, the mask of `bad/left/7.jpg` is `masks/left/7.png` or `masks/left/7_mask.png`. The
    folder that a bad image is in names its kind.
    """

    layout = "expected images where the globs `normal`, `anomalous`, `test_normal` and `masks` look for them"

    def __init__(
        self,
        root: str,
        normal: str = "**/*",
        anomalous: str = "",
        test_normal: str = "",
        masks: str = "",
        test_fraction: float = 0.2,
        **options: Any,
    ) -> None:
        """Remembers where the images are.

        Args:
            root: Folder that the globs start from; `**` stands for any number of folders.
            normal: Good images, to train with; what another glob finds is not among them.
            anomalous: Bad images, to test with.
            test_normal: Good images to test with; if it is empty, a part of `normal` is held out for it.
            masks: Masks of bad images: 0 where normal, above 0 where not.
            test_fraction: Part of `normal` that is held out for testing where `test_normal` is empty.
            options: As of every data module that reads files.
        """
        super().__init__(root, **options)
        self.globs = {"normal": normal, "anomalous": anomalous, "test_normal": test_normal, "masks": masks}
        self.test_fraction = test_fraction

    def normal_images(self) -> list[Path]:
        return self._normal_split()[1]

    def test_records(self) -> tuple[list[Record], list[str]]:
        if not self.globs["anomalous"]:
            raise InputError(f"there is nothing to test with in {self.root}: `anomalous` names no images")
        masks = set(self._find("masks"))
        bad = [path for path in self._find("anomalous") if path not in masks]
        self.require_images(bad, self.root / self.globs["anomalous"])
        pairing = pair_masks(bad, self._base("anomalous"), sorted(masks), self._base("masks"))
        records = [Record(path, 1, pairing.mask_of.get(path), path.parent.name) for path in bad]
        return sorted([*records, *map(Record, self._normal_split()[0])]), pairing.problems

    def _normal_split(self) -> tuple[list[Path], list[Path]]:
        """Good images to test with, and those to train with."""
        others = {path for name in ("anomalous", "test_normal", "masks") for path in self._find(name)}
        paths = [path for path in self._find("normal") if path not in others]
        self.require_images(paths, self.root / self.globs["normal"])
        if self.globs["test_normal"]:
            test = self._find("test_normal")
            self.require_images(test, self.root / self.globs["test_normal"])
            return test, paths
        require_fraction(test_fraction=self.test_fraction)
        held_out = round(self.test_fraction * len(paths)) if self.globs["anomalous"] else 0
        return draw(paths, held_out, self.seed)

    def _find(self, name: str) -> list[Path]:
        glob = self.globs[name]
        if Path(glob).is_absolute():
            raise InputError(f"{name} is {glob}; it has to start below root, which is {self.root}")
        try:
            return list_images(self.root, glob) if glob else []
        except ValueError as error:
            raise InputError(f"{name} is {glob}, which is no glob: {error}") from error

    def _base(self, name: str) -> Path:
        """The folder below which all paths that a glob finds are."""
        base = self.root
        for part in Path(self.globs[name]).parts[:-1]:
            if any(wildcard in part for wildcard in "*?["):
                break
            base /= part
        return base

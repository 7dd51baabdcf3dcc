"""Images in any layout, named by globs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtadl.common.ranges import require_fraction
from vtadl.data.content import draw, read_contents
from vtadl.data.file_module import FileDataModule
from vtadl.data.listing import first_few, list_images, split_glob
from vtadl.data.records import Record, masks_beside, not_normal, pair_masks
from vtadl.errors import InputError


class Folder(FileDataModule):
    """Good images, optional bad ones, and optional masks of the bad ones, each by a glob below a folder.

    A mask belongs to the bad image that has the same path below the part of its glob without wildcards, but
    for the suffix and for `_mask` or the like at the end of the mask's name: with `anomalous=bad/**/*` and
    `masks=masks/**/*`, the mask of `bad/left/7.jpg` is `masks/left/7.png` or `masks/left/7_mask.png`. The
    folder that a bad image is in names its kind.
    """

    layout = "expected images where the globs `normal`, `anomalous`, `test_normal` and `masks` look for them"
    uses_all = False

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
            root: Folder that the globs start from; `**` stands for any number of folders. A folder's name
                stands for all that is in it.
            normal: Good images, to train with; what another glob finds is not among them.
            anomalous: Bad images, to test with.
            test_normal: Good images to test with; if it is empty, a part of `normal` is held out for it.
            masks: Masks of bad images; those that lie beside them, as `7_mask.png`, need no glob.
            test_fraction: Part of `normal` that is held out for testing where `test_normal` is empty.
            options: As of every data module that reads files.
        """
        super().__init__(root, **options)
        self.globs = {"normal": normal, "anomalous": anomalous, "test_normal": test_normal, "masks": masks}
        self.test_fraction = test_fraction

    def normal_images(self) -> list[Path]:
        return self._normal_split()[1]

    def test_records(self) -> tuple[list[Record], list[str]]:
        if not self.globs["anomalous"] and not self.globs["test_normal"]:
            raise InputError(
                f"there is nothing to test with in {self.root}: `anomalous` and `test_normal` name no images"
            )
        drawn = self._find("masks")
        self._require("masks", drawn)
        bad, beside = masks_beside(path for path in self._find("anomalous") if path not in set(drawn))
        self._require("anomalous", bad)
        base = self._base("anomalous")
        pairing = pair_masks(bad, base, (self._base("masks"), drawn), (base, beside))
        records = [Record(path, 1, pairing.mask_of.get(path), path.parent.name) for path in bad]
        return sorted([*records, *map(Record, self._normal_split()[0])]), pairing.problems

    def doubts(self) -> list[str]:
        """Says which normal images may be none, by their names below the folder that `normal` names."""
        base = self._base("normal")
        doubtful = [path for path in self.normal_images() if not_normal(path.relative_to(base))]
        if not doubtful:
            return []
        few = first_few(path.relative_to(self.root) for path in doubtful)
        return [
            f"{len(doubtful)} of the images that `normal` finds are called as if they were none ({few}): "
            "name each kind by `normal`, `anomalous`, `test_normal` and `masks`"
        ]

    def _normal_split(self) -> tuple[list[Path], list[Path]]:
        """Good images to test with, and those to train with."""
        others = {path for name in ("anomalous", "test_normal", "masks") for path in self._find(name)}
        paths = [path for path in self._find("normal") if path not in others]
        self._require("normal", paths)
        if self.globs["test_normal"]:
            test = self._find("test_normal")
            self._require("test_normal", test)
            return test, paths
        require_fraction(test_fraction=self.test_fraction)
        if not self.globs["anomalous"]:
            return [], paths
        contents = read_contents(paths, self.max_pixels)
        pictures = {content.identity: path for path, content in reversed(contents.items())}
        drawn = draw(contents.values(), round(self.test_fraction * len(pictures)), self.seed, "test")
        test = sorted(pictures[identity] for identity in drawn)
        return test, [path for path in paths if contents[path].identity not in drawn]

    def _find(self, name: str) -> list[Path]:
        glob = self.globs[name]
        try:
            base = self._base(name)
            if not base.is_relative_to(self.root) and not base.is_dir():
                raise InputError(f"{name} is {glob}, but there is no folder {base}")
            return list_images(self.root, glob) if glob else []
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{name} is {glob}, which is no glob: {error}") from error

    def _require(self, name: str, paths: Sequence[Path]) -> None:
        """Raises InputError where a glob was given and finds nothing."""
        if self.globs[name]:
            self.require_images(paths, self.root / self.globs[name])

    def _base(self, name: str) -> Path:
        """The folder below which all paths that a glob finds are."""
        return split_glob(self.root, self.globs[name])[0]

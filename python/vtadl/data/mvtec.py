"""Folders with one subfolder per kind of test image: the layouts of MVTec AD and BTAD."""

from pathlib import Path
from typing import Any, ClassVar

from vtadl.data.file_module import FileDataModule
from vtadl.data.images import list_images
from vtadl.data.records import Record, pair_masks


class _KindFolders(FileDataModule):
    """`train/<normal>`, `test/<kind>` and `ground_truth/<kind>`."""

    normal: ClassVar[str]  # name of the folders with normal images

    def __init__(self, root: str, category: str = "", **options: Any) -> None:
        """Remembers where the images are.

        Args:
            root: Folder of one category, or of all of them with `category`.
            category: Name of the category's folder below `root`.
            options: As of every data module that reads files.
        """
        super().__init__(str(Path(root) / category), **options)

    def normal_images(self) -> list[Path]:
        folder = self.root / "train" / self.normal
        paths = list_images(folder)
        self.require_images(paths, folder)
        return paths

    def test_records(self) -> tuple[list[Record], list[str]]:
        test, ground_truth = self.root / "test", self.root / "ground_truth"
        for kind in sorted(path for path in test.glob("*") if path.is_dir()):
            self.require_images(list_images(kind), kind)
        images = list_images(test, "*/*")
        self.require_images(images, test)
        pairing = pair_masks(images, test, list_images(ground_truth, "*/*"), ground_truth)
        return [self._record(path, pairing.mask_of.get(path)) for path in images], pairing.problems

    def _record(self, path: Path, mask: Path | None) -> Record:
        kind = path.parent.name
        return Record(path, 0, mask) if kind == self.normal else Record(path, 1, mask, kind)


class MVTecAD(_KindFolders):
    """One category of MVTec AD (Bergmann et al., CVPR 2019), or a folder of one's own in its layout.

    `test/good` is normal, any other `test/<kind>` is anomalous; masks are optional.
    """

    normal = "good"
    layout = (
        "expected train/good, test/<kind>, and optionally ground_truth/<kind>/<name>_mask.png in a "
        "category's folder. MVTec AD itself: https://www.mvtec.com/company/research/datasets/mvtec-ad, "
        "CC BY-NC-SA 4.0 (not for commercial use)"
    )


class BTAD(_KindFolders):
    """One product of the beanTech Anomaly Detection data (Mishra et al., ISIE 2021): category 01, 02 or 03.

    Files are bmp and png, and a mask may have another suffix than its image.
    """

    normal = "ok"
    layout = (
        "expected train/ok, test/ok, test/ko and ground_truth/ko in a product's folder (01, 02, 03). "
        "BTAD: https://avires.dimi.uniud.it/papers/btad/btad.zip, CC BY-SA 4.0"
    )

"""Folders with one subfolder per kind of test image: the layouts of MVTec AD, MVTec LOCO AD and BTAD."""

import os
from pathlib import Path
from typing import Any, ClassVar

from vtadl.data.file_module import FileDataModule
from vtadl.data.listing import list_images, subfolders
from vtadl.data.records import Record, masks_beside, pair_masks


class _KindFolders(FileDataModule):
    """`train/<normal>`, maybe `validation/<normal>`, `test/<kind>` and `ground_truth/<kind>`.

    A folder of a kind may have folders of its own, which are kinds of their own unless they are normal.
    """

    normal: ClassVar[str]  # name of the folders with normal images

    def __init__(self, root: str, category: str = "", **options: Any) -> None:
        """Remembers where the images are.

        Args:
            root: Folder of one category, or of all of them with `category`.
            category: Name of the category's folder below `root`.
            options: As of every data module that reads files.
        """
        super().__init__(os.path.join(root, category), **options)

    def normal_images(self) -> list[Path]:
        folder = self.root / "train" / self.normal
        paths = list_images(folder, "**/*")
        self.require_images(paths, folder)
        return paths

    def validation_images(self) -> list[Path]:
        return list_images(self.root / "validation" / self.normal, "**/*")

    def test_records(self) -> tuple[list[Record], list[str]]:
        test, ground_truth = self.root / "test", self.root / "ground_truth"
        images: list[Path] = []
        for kind in subfolders(test):
            found = list_images(kind, "**/*")
            self.require_images(found, kind)
            images += found
        self.require_images(images, test)
        images, beside = masks_beside(sorted(images))
        drawn = [mask for kind in subfolders(ground_truth) for mask in list_images(kind, "**/*")]
        drawn += list_images(ground_truth)
        pairing = pair_masks(images, test, (ground_truth, drawn), (test, beside))
        return [self._record(path, test, pairing.mask_of.get(path)) for path in images], pairing.problems

    def _record(self, path: Path, test: Path, mask: Path | None) -> Record:
        kind = path.parent.relative_to(test)
        is_normal = kind.parts[0] == self.normal
        return Record(path, 0, mask) if is_normal else Record(path, 1, mask, kind.as_posix())


class MVTecAD(_KindFolders):
    """One category of MVTec AD (Bergmann et al., CVPR 2019) or MVTec LOCO AD (Bergmann et al., IJCV 2022).

    Or a folder of one's own in such a layout. `test/good` is normal, any other `test/<kind>` is anomalous;
    masks are optional. Where `validation/good` has images, they are all that is validated with.
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

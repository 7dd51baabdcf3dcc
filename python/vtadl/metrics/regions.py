"""The connected regions of a mask."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


class Regions:
    """The regions of a mask [H, W]; pixels that touch at a corner belong to the same region.

    Labels are held of the smallest rectangle that contains all regions, which is a small part of most masks.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        rows, columns = (_extent(np.any(mask, axis)) for axis in (1, 0))
        self.mask = mask
        self.rows = rows
        self.labels = label(mask[rows, columns], connectivity=2)
        self.areas = np.bincount(self.labels.ravel())

    def weights(self, rows: slice) -> NDArray[np.float64]:
        """Computes 1 / area of the region of each marked pixel [A] of some rows, in the order of pixels."""
        top, bottom = (min(max(row, self.rows.start), self.rows.stop) for row in (rows.start, rows.stop))
        labels = self.labels[top - self.rows.start : bottom - self.rows.start]
        return 1 / self.areas[labels[labels > 0]]


def _extent(marked: NDArray[np.bool_]) -> slice:
    """Returns the range from the first to the last marked index."""
    (indices,) = np.nonzero(marked)
    return slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else slice(0, 0)

import pytest
import torch
import torch.nn.functional as F

from vtadl.errors import InputError
from vtadl.features.windows import Windows


def test_windows_are_centred_on_their_patches():
    images = torch.rand(2, 3, 16, 24)
    windows = Windows((16, 24), stride=4, window=8, scales=(1, 2))
    x = windows(images).unflatten(2, (2, 3, 8, 8))
    assert windows.grid == (4, 6)
    row, column = 1, 2
    expected = images[:, :, 4 * row - 2 : 4 * row + 6, 4 * column - 2 : 4 * column + 6]
    torch.testing.assert_close(x[:, row * 6 + column, 0], expected)
    pooled = F.pad(F.avg_pool2d(images, 2), (3, 3, 3, 3), mode="replicate")
    expected = pooled[:, :, 2 * row : 2 * row + 8, 2 * column : 2 * column + 8]
    torch.testing.assert_close(x[:, row * 6 + column, 1], expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stride": 5}, "not a multiple of stride 5"),
        ({"stride": 4, "scales": (3,)}, "scale 3"),
        ({"stride": 8, "window": 4}, "window is 4"),
    ],
)
def test_windows_that_do_not_fit_are_named(options, named):
    with pytest.raises(InputError, match=named):
        Windows((32, 32), **options)

import pytest
import torch

from vtadl.density import DensitySettings, Dictionary, ExpertSettings
from vtadl.density.descriptors import make_extractors
from vtadl.density.nearest import NearestWindows

GRIDS = [(1, 1), (1, 5), (3, 1), (4, 6)]
NEAR = ExpertSettings("energies", "near")


class Unprojected:
    """A projection that gives every feature unit weight."""

    def whitening(self, softness):
        return torch.ones(3)


def brute_force(x, windows, grid):
    """The distance of each window of x to those within one row and one column, in float64."""
    x, windows = (values.double().unflatten(1, grid) for values in (x, windows))
    distances = torch.zeros(x.shape[:3], dtype=torch.float64)
    for row in range(grid[0]):
        for column in range(grid[1]):
            near = windows[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].flatten(0, 2)
            distances[:, row, column] = torch.cdist(x[:, row, column], near).amin(1)
    return distances.flatten(1)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_distances_are_those_to_the_nearest_window_beside(grid):
    positions = grid[0] * grid[1]
    normal, images = torch.randn(5, positions, 3).half().float(), torch.randn(4, positions, 3)
    expert = NearestWindows("energies", grid)
    expert.fit(normal, Unprojected(), NEAR)
    torch.testing.assert_close(
        expert(images).double(), brute_force(images, normal, grid), rtol=1e-4, atol=1e-4
    )
    assert expert(normal).max() < 1e-2


def test_an_object_may_lie_a_position_aside():
    normal = torch.randn(1, 36, 3)
    expert = NearestWindows("energies", (6, 6))
    expert.fit(normal, Unprojected(), NEAR)
    shifted = normal.unflatten(1, (6, 6)).roll((1, -1), (1, 2)).flatten(1, 2)
    inside = expert(shifted).unflatten(1, (6, 6))[:, 1:-1, 1:-1]
    assert inside.max() < 1e-2


def test_a_dictionary_of_nearest_windows_is_saved_and_loaded():
    images = torch.rand(8, 3, 32, 32)

    def make():
        return Dictionary(make_extractors(DensitySettings(stride=4), (32, 32)), 8)

    fitted, loaded = make(), make()
    fitted.fit(images, NEAR)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(images), loaded(images))
    assert loaded.experts[0].windows.dtype == torch.float16


def test_nearest_windows_of_many_images_stay_within_the_memory(monkeypatch):
    monkeypatch.setattr("vtadl.density.nearest._MAX_VALUES", 3 * 4 * 3)
    expert = NearestWindows("energies", (2, 2))
    expert.fit(torch.randn(9, 4, 3), Unprojected(), NEAR)
    assert expert.windows.shape == (2, 2, 3, 3)


def test_nearest_windows_are_exported():
    dictionary = Dictionary(make_extractors(DensitySettings(stride=4), (32, 32)), 8)
    images = torch.rand(4, 3, 32, 32)
    dictionary.fit(images, NEAR)
    batch = {0: torch.export.Dim("batch", min=1)}
    with torch.no_grad():
        program = torch.export.export(dictionary.eval(), (images[:2],), dynamic_shapes=(batch,), strict=False)
    torch.testing.assert_close(program.module()(images), dictionary(images))

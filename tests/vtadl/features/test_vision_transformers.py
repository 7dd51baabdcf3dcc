import sys

import lightning as L
import pytest
import torch

from vtadl.checkpoints import load_detector
from vtadl.data import TextureDefects
from vtadl.errors import InputError
from vtadl.features.vision_transformers import PretrainedPatches
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.callbacks import training_callbacks

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=["vit", "dinov2"])
def folder(request, tmp_path):
    """A tiny transformer of random weights, as `save_pretrained` leaves it."""
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    if request.param == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(**sizes, intermediate_size=16))
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_features_are_the_hidden_states_of_the_patches(folder):
    patches = PretrainedPatches(str(folder), (32, 32), (-2, -1))
    images = torch.rand(2, 3, 32, 32)
    features = patches(images)
    assert patches.grid == (4, 4)
    assert features.shape == (2, 16, 32)
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    states = (
        transformers.AutoModel.from_pretrained(folder)
        .eval()((images - mean) / std, output_hidden_states=True)
        .hidden_states
    )
    expected = torch.nn.functional.layer_norm(states[-1], (16,))[:, 1:]
    torch.testing.assert_close(features[..., 16:], expected, atol=1e-5, rtol=1e-4)


def test_a_changed_patch_changes_its_own_features_most(folder):
    patches = PretrainedPatches(str(folder), (32, 32), (0,))
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 8:16, 16:24] = 1
    difference = (patches(changed) - patches(image)).abs().sum(-1)[0]
    assert difference.argmax() == 6


def test_images_of_another_size_are_resized_to_that_of_the_transformer(folder):
    assert PretrainedPatches(str(folder), (64, 48))(torch.rand(1, 3, 64, 48)).shape == (1, 16, 32)


def test_the_transformer_is_frozen_even_while_training(folder, make_network, tiny):
    model = make_network(**tiny, features=8, pretrained=str(folder), pretrained_layers=(-1,)).train()
    extractor = model.dictionary.extractor
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_a_detector_with_pretrained_features_trains_and_is_restored(folder, tiny, tmp_path):
    data = TextureDefects(image_size=32, batch_size=8, train_count=24, val_count=8, test_count=8)
    options = {"positions": "own", "softness": 0.03, "min_std": 0.1, "components": 1, "features": 8}
    detector = AnomalyDetector.from_settings(**tiny | options, pretrained=str(folder))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        callbacks=training_callbacks(tmp_path)[1:],
    )
    trainer.fit(detector, data)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_detector(tmp_path / "last.ckpt")(images).image, detector.eval()(images).image)


@pytest.mark.parametrize("layers", [(), (5,), (-4,)])
def test_a_layer_that_does_not_exist_is_named(folder, layers):
    with pytest.raises(InputError, match="pretrained_layers"):
        PretrainedPatches(str(folder), (32, 32), layers)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        PretrainedPatches(str(tmp_path / "nowhere"), (32, 32))


def test_a_model_without_patches_is_named(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=8)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no vision transformer"):
        PretrainedPatches(str(tmp_path), (32, 32))


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'vtadl-ext\[pretrained\]'"):
        PretrainedPatches("any", (32, 32))

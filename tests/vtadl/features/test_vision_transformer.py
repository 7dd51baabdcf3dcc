import json
import sys

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from vtadl.checkpoints import load_detector
from vtadl.data import TextureDefects
from vtadl.errors import InputError
from vtadl.features.backbones import make_backbone
from vtadl.lightning_module import AnomalyDetector
from vtadl.model.settings import choose_image_size
from vtadl.training.callbacks import training_callbacks

transformers = pytest.importorskip("transformers")

CHOSEN = {"positions": "own", "softness": 0.03, "min_std": 0.1, "components": 1, "features": 8}


NO_MODEL = {"kind": "transformer", "model": {"model_type": "x"}, "mean": [0, 0, 0], "std": [1, 1, 1]}


def make(folder, **options):
    return make_backbone(str(folder), (32, 32), **{"size": 32} | options)


def hidden_states(folder, images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    """The hidden states of the whole transformer, with all tokens."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model((images - mean) / std, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("layers", [(2, 4), (0, -1), (6,), (0,)])
def test_features_are_the_normalised_hidden_states_of_the_patches(folder, layers):
    backbone = make(folder, layers=layers)
    images = torch.rand(2, 3, 32, 32)
    states = [hidden_states(folder, images)[layer][:, -16:] for layer in layers]
    expected = torch.cat([F.layer_norm(state, (16,)) for state in states], -1)
    assert backbone.grid == (4, 4)
    torch.testing.assert_close(backbone(images), expected, atol=1e-5, rtol=1e-4)


def test_published_weights_are_kept_in_half_precision(real_data):
    folder = real_data / "dinov2-small"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder}")
    backbone = make_backbone(str(folder), (128, 128), size=(56, 70))
    assert (backbone.layers, backbone.grid) == ((4, 6, 8), (4, 5))
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float16}
    copy = make_backbone("elsewhere", (128, 128), size=(56, 70), config=backbone.config)
    copy.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 3, 128, 128)
    assert torch.equal(copy(images), backbone(images))


def test_the_default_layers_lie_in_the_middle(folder):
    assert make(folder, layers=None).layers == (2, 3, 4)


def test_a_changed_patch_changes_its_own_features_most(folder):
    backbone = make(folder, layers=(0,))
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 8:16, 16:24] = 1
    difference = (backbone(changed) - backbone(image)).abs().sum(-1)[0]
    assert difference.argmax() == 6


@pytest.mark.parametrize(
    ("size", "grid"), [(32, (4, 4)), ((48, 24), (6, 3)), ("trained", (4, 4)), (None, (42, 56))]
)
def test_images_are_resized_to_the_size_of_the_backbone(folder, size, grid):
    backbone = make_backbone(str(folder), (48, 64), size=size)
    assert backbone.grid == grid
    assert backbone(torch.rand(1, 3, 48, 64)).shape == (1, grid[0] * grid[1], 48)


@pytest.mark.parametrize(
    ("backbone", "size", "image_size"),
    [
        (None, None, (256, 256)),
        ("vit", None, (336, 336)),
        ("vit", "trained", (336, 336)),
        ("vit", (224, 252), (224, 256)),
        ("efficientnet-lite0", None, (256, 256)),
        ("package.Network", 64, (64, 64)),
    ],
)
def test_images_are_about_as_large_as_the_input_of_the_backbone(backbone, size, image_size):
    assert choose_image_size(None, backbone, size) == image_size
    assert choose_image_size((48, 64), backbone, size) == (48, 64)


def test_the_colours_are_those_of_the_folder(folder):
    colours = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    values = {f"image_{name}": value for name, value in colours.items()}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    images = torch.rand(1, 3, 32, 32)
    expected = F.layer_norm(hidden_states(folder, images, **colours)[2][:, -16:], (16,))
    torch.testing.assert_close(make(folder, layers=(2,))(images), expected, atol=1e-5, rtol=1e-4)


def test_the_transformer_is_frozen_even_while_training(folder, make_network, tiny):
    model = make_network(**tiny, features=8, backbone=str(folder), backbone_size=32).train()
    extractor = model.dictionary.extractor("backbone")
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_weights_are_kept_in_half_precision_where_that_is_exact(dinov2):
    backbone = make(dinov2)
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32, torch.float16}
    transformers.AutoModel.from_pretrained(dinov2).half().save_pretrained(dinov2)
    backbone = make(dinov2)
    state = backbone.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    copy = make("elsewhere", config=backbone.config)
    copy.load_state_dict(state)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(copy(images), backbone(images))


def test_a_backbone_without_weights_is_not_used(folder):
    with pytest.raises(InputError, match="no weights"):
        make(folder, config=make(folder).config)(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("config", [{}, {"kind": "nothing"}, {"kind": "transformer"}, NO_MODEL])
def test_a_config_that_is_not_that_of_a_checkpoint_is_refused(config):
    with pytest.raises(InputError, match="backbone_config is not that of a checkpoint"):
        make("elsewhere", config=config)


def test_a_transformer_that_joins_images_is_named(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.PixtralVisionConfig(**sizes, image_size=32, patch_size=8)
    transformers.PixtralVisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not keep a hidden state for each patch"):
        make(tmp_path)


def test_a_detector_is_restored_where_the_backbone_is_missing(folder, tiny, tmp_path):
    data = TextureDefects(image_size=32, batch_size=8, train_count=24, val_count=8, test_count=8)
    detector = AnomalyDetector.from_settings(**tiny | CHOSEN, backbone=str(folder), backbone_size=32)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        callbacks=training_callbacks(tmp_path)[1:],
    )
    trainer.fit(detector, data)
    images = torch.rand(2, 3, 32, 32)
    folder.rename(tmp_path / "moved")
    assert torch.equal(load_detector(tmp_path / "last.ckpt")(images).image, detector.eval()(images).image)


@pytest.mark.parametrize("layers", [(), (7,), (-8,)])
def test_a_layer_that_does_not_exist_is_named(folder, layers):
    with pytest.raises(InputError, match=r"backbone_layers \[.*\] are not all among the 7 of"):
        make(folder, layers=layers)


@pytest.mark.parametrize("size", [20, (32, 20)])
def test_a_size_that_is_no_multiple_of_the_patch_is_named(folder, size):
    with pytest.raises(InputError, match=r"backbone_size .*20 is not a multiple of 8"):
        make(folder, size=size)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot load backbone .*nowhere: there is no folder .*nowhere"):
        make(tmp_path / "nowhere")


def test_a_folder_without_a_transformer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot load backbone .*: the folder has to hold config\.json"):
        make(tmp_path)


def test_weights_that_are_missing_are_named(dinov2):
    state = transformers.AutoModel.from_pretrained(dinov2).state_dict()
    del state["encoder.layer.2.norm1.weight"]
    transformers.AutoModel.from_pretrained(dinov2).save_pretrained(dinov2, state_dict=state)
    with pytest.raises(InputError, match=r"lacks weights, such as encoder\.layer\.2\.norm1\.weight"):
        make(dinov2)


def test_without_a_network_the_error_says_what_to_download(monkeypatch):
    def fail(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    page = "https://huggingface.co/facebook/dinov2-small into a folder"
    with pytest.raises(InputError, match=rf"download .* {page}, and give it by --model\.backbone FOLDER"):
        make("dinov2-small")


def test_a_model_without_patches_is_named(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=8)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no vision transformer"):
        make(tmp_path)


def test_a_transformer_that_masks_patches_is_named(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTMAEConfig(**sizes, image_size=32, patch_size=8)
    transformers.ViTMAEModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="masks patches at random"):
        make(tmp_path)


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'vtadl-ext\[pretrained\]'"):
        make("any")

"""Tiny vision transformers of random weights."""

import pytest
import torch

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def make_transformer(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "vit":
        return transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=16))
    if kind == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**SIZES))
    return transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3)
    )


@pytest.fixture(params=["vit", "dinov2", "dinov2-with-registers"])
def folder(request, tmp_path):
    """The folder of a transformer, as `save_pretrained` leaves it."""
    make_transformer(request.param).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def dinov2(tmp_path):
    """The folder of a DINOv2."""
    make_transformer("dinov2").save_pretrained(tmp_path / "model")
    return tmp_path / "model"

"""Features of a frozen vision transformer of the `transformers` library."""

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.errors import InputError
from vtadl.features.frozen import IMAGENET_COLOURS, FrozenNetwork
from vtadl.features.input_size import InputSize, choose_size, proportional_size
from vtadl.images.tiles import Size, as_pair

SHORTER_SIDE = 336  # pixels, by default
_SHORT_NAME = re.compile(r"dinov2-(with-registers-)?(small|base|large|giant)")
_NOT_ARCHITECTURE = ("id2label", "label2id", "architectures", "dtype", "torch_dtype", "_name_or_path")


class VisionTransformer(FrozenNetwork):
    """Hidden states of a vision transformer, one per patch, each normalised to mean 0 and variance 1.

    Class and register tokens are skipped. Layers above the last one that is used are dropped.
    """

    def __init__(
        self,
        source: str,
        image_size: Size,
        layers: Sequence[int] | None = None,
        size: InputSize = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Loads the transformer, or builds it without its weights.

        Args:
            source: Folder of `save_pretrained`, name on the hub, or short name such as `dinov2-small`.
            image_size: Height and width of the images.
            layers: Hidden states to concatenate; 0 is the embedding, -1 the last. By default those at a
                third, a half and two thirds of the depth.
            size: Size to which images are resized; by default about 336 pixels in the shorter side.
            config: Architecture to build; its weights come from a checkpoint afterwards.

        Raises:
            InputError: If the transformer cannot be loaded, has no patches, or lacks a layer or the size.
        """
        require_transformers()
        model = _load(source) if config is None else _build(config["model"])
        patch, trained = model.config.patch_size, getattr(model.config, "image_size", None)
        colours = _colours(source) if config is None else config
        default = proportional_size(image_size, SHORTER_SIDE, patch)
        chosen = choose_size(size, default, as_pair(trained or image_size), patch)
        super().__init__(model, chosen, colours, has_weights=config is None)
        self.grid = (chosen[0] // patch, chosen[1] // patch)
        self.layers = _existing_layers(layers, model.config.num_hidden_layers, source)
        self.config = {"model": architecture(model)} | {name: [*colours[name]] for name in ("mean", "std")}
        model.config.tie_last_hidden_states = False  # the last one would have the final normalisation
        _drop_layers_above(model, max(self.layers))
        self.options: dict[str, Any] = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
            self.options["interpolate_pos_encoding"] = True
        self._require_patches(source)

    def features(self, images: Tensor) -> Tensor:
        states = self.model(pixel_values=images, **self.options).hidden_states
        patches = self.grid[0] * self.grid[1]  # class and register tokens come before them
        chosen = [states[layer][:, -patches:] for layer in self.layers]
        return torch.cat([F.layer_norm(state, state.shape[-1:]) for state in chosen], -1)

    @torch.no_grad()
    def _require_patches(self, source: str) -> None:
        """Raises InputError unless the hidden states have a token for each patch of the grid."""
        height, width = self.size
        try:
            shape = self.features(self.mean.new_zeros(2, 3, height, width)).shape
        except Exception as error:
            raise InputError(f"backbone {source} cannot take images of {height}x{width}: {error}") from error
        if shape[:2] != (2, self.grid[0] * self.grid[1]):
            raise InputError(f"backbone {source} does not keep a hidden state for each patch")


def require_transformers() -> None:
    """Raises InputError, which says what to install, unless the `transformers` library is there."""
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "backbones of transformers need a package: pip install 'vtadl-ext[pretrained]'"
        ) from error


def hub_name(source: str) -> str:
    """The name on the hub, which short names such as `dinov2-small` stand for."""
    return f"facebook/{source}" if _SHORT_NAME.fullmatch(source) else source


def architecture(model: Any) -> dict[str, Any]:
    """The configuration of a transformer, from which it can be built without its source."""
    values = model.config.to_diff_dict() | {"model_type": model.config.model_type}
    return {name: value for name, value in values.items() if name not in _NOT_ARCHITECTURE}


def _load(source: str) -> Any:
    """Loads a transformer from a folder or from the hub."""
    from transformers import AutoModel

    path = _location(source)
    try:
        with _silence():
            model, found = AutoModel.from_pretrained(path, output_loading_info=True, trust_remote_code=False)
    except Exception as error:  # the loaders of configurations and weights, and the hub, fail in many ways
        raise InputError(f"cannot load backbone {source}: {_remedy(path)}") from error
    missing = [name for name in found["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise InputError(f"backbone {source} lacks weights, such as {missing[0]}: {_remedy(path)}")
    return _require_transformer(model, source)


def _build(config: dict[str, Any]) -> Any:
    """Builds a transformer without its weights."""
    from transformers import AutoConfig, AutoModel

    try:
        with _silence():
            return AutoModel.from_config(AutoConfig.for_model(**config), trust_remote_code=False)
    except Exception as error:  # depends on the type of the transformer
        raise InputError("backbone_config is not that of a checkpoint") from error


def _require_transformer(model: Any, source: str) -> Any:
    """Returns the model; raises InputError unless it is a vision transformer that sees all patches."""
    config = model.config
    if not isinstance(getattr(config, "patch_size", None), int):
        raise InputError(f"backbone {source} is no vision transformer: its configuration has no patch_size")
    if hasattr(config, "mask_ratio"):
        raise InputError(f"backbone {source} masks patches at random: choose another transformer")
    return model


def _location(source: str) -> str:
    """The folder that a source names, or the name on the hub."""
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else hub_name(source)


def _remedy(path: str) -> str:
    """What to do about a transformer that cannot be loaded."""
    if Path(path).is_dir():
        return "the folder has to hold config.json and model.safetensors of a vision transformer"
    if path.count("/") > 1 or path.startswith((".", "/", "~")):
        return f"there is no folder {path}"
    return (
        f"there is no folder {path}, and the hub cannot be reached or has no such model; download "
        f"config.json, preprocessor_config.json and model.safetensors from https://huggingface.co/{path} "
        "into a folder, and give it by --model.backbone FOLDER"
    )


def _colours(source: str) -> dict[str, Sequence[float]]:
    """Mean and standard deviation of the colours that a transformer was trained on; ImageNet's if unknown."""
    from transformers.utils import cached_file

    path = _location(source)
    try:
        with _silence():
            found = cached_file(path, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        values = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load backbone {source}: {_remedy(path)}") from error
    return {name: values.get(f"image_{name}") or IMAGENET_COLOURS[name] for name in ("mean", "std")}


def _existing_layers(layers: Sequence[int] | None, depth: int, source: str) -> tuple[int, ...]:
    """The numbers of hidden states, of which there are `depth` + 1, counted from the embedding."""
    if layers is None:
        layers = sorted({max(1, depth * part // 6) for part in (2, 3, 4)})
    if not layers or any(not -depth <= layer + 1 <= depth + 1 for layer in layers):
        raise InputError(f"backbone_layers {list(layers)} are not all among the {depth + 1} of {source}")
    return tuple(layer % (depth + 1) for layer in layers)


def _drop_layers_above(model: Any, last: int) -> None:
    """Drops the layers after the first `last` ones, which would be computed in vain."""
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            del module[max(1, last) :]
            return


@contextmanager
def _silence() -> Iterator[None]:
    """Silences the reports and progress bars of `transformers`, and the retries of the hub."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    loggers = [getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            logging.enable_progress_bar()

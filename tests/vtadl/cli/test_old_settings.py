"""Runs and settings of earlier versions work with this version."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from vtadl.cli import main
from vtadl.cli.old_settings import translate_data_options, translate_file, translate_model_options
from vtadl.cli.parsing import Parser
from vtadl.settings import GROUP_OF, GROUPS, group_settings

OLD_PLUGINS = """trainer:
  max_epochs: 3
  plugins:
  - class_path: vtadl.files.AtomicCheckpointIO
  - class_path: vtadl.distributed.SyncBatchNorm
"""


def test_plugins_that_every_trainer_has_are_removed_from_settings() -> None:
    assert translate_file(OLD_PLUGINS) == '{"trainer": {"max_epochs": 3, "plugins": null}}'


@pytest.mark.parametrize("text", ["", "nothing", "a: [", "trainer: {plugins: [x]}", "patience: 1e-3"])
def test_other_settings_are_unchanged(text: str) -> None:
    assert translate_file(text) == text


def test_the_old_option_fit_becomes_resize_mode() -> None:
    old = "data: {class_path: MVTecAD, init_args: {root: parts, fit: crop}}"
    new = '{"data": {"class_path": "MVTecAD", "init_args": {"root": "parts", "resize_mode": "crop"}}}'
    assert translate_file(old) == new
    assert translate_data_options(["fit", "--data.fit=crop", "--data.root", "fit"]) == [
        "fit",
        "--data.resize_mode=crop",
        "--data.root",
        "fit",
    ]


def test_settings_of_the_model_may_stand_outside_their_groups() -> None:
    grouped = (
        '{"model": {"equal_norm": true, "network": {"depth": 1, "width": 16}, "scoring": {"terms": null}}}'
    )
    assert translate_file("model: {width: 16, equal_norm: true, terms: null, network: {depth: 1}}") == grouped
    assert translate_file(grouped) == grouped
    options = [
        "--model.width",
        "16",
        "--model.scales+=4",
        "--model.loss.mse_weight=1",
        "--model.equal_norm=true",
    ]
    assert translate_model_options(options) == [
        "--model.network.width",
        "16",
        "--model.density.scales+=4",
        *options[3:],
    ]


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_values_of_options_may_have_old_names(tmp_path: Path, as_file: bool, joined: bool) -> None:
    def options(name: str, text: str) -> list[str]:
        if as_file:
            (tmp_path / "old.yaml").write_text(text)
            text = str(tmp_path / "old.yaml")
        return [f"{name}={text}"] if joined else [name, text]

    (model,) = translate_model_options(options("--model", "{width: 48}"))[-1:]
    assert model.removeprefix("--model=") == '{"network": {"width": 48}}'
    (data,) = translate_data_options(options("--data", "{class_path: Folder, init_args: {fit: crop}}"))[-1:]
    new = '{"class_path": "Folder", "init_args": {"resize_mode": "crop"}}'
    assert data.removeprefix("--data=") == new


def test_settings_of_a_command_by_its_name_may_have_old_names() -> None:
    assert translate_file("fit: {model: {width: 48}}") == '{"fit": {"model": {"network": {"width": 48}}}}'


def test_a_dictionary_of_settings_keeps_each_of_them() -> None:
    parser = Parser()
    parser.add_argument("--model", type=dict[str, Any])
    options = ["--model.likelihood", "paper", "--model.min_std", "0.1", "--model.terms", "[nll]"]
    assert parser.parse_args(options).model == {"likelihood": "paper", "min_std": 0.1, "terms": ["nll"]}


@pytest.mark.parametrize("grouped", [True, False])
def test_a_pretrained_transformer_becomes_a_backbone_of_its_own_size(grouped: bool) -> None:
    old = {"pretrained": "vit", "pretrained_layers": [-2, -1], "descriptor": "pretrained"}
    assert group_settings({"density": old} if grouped else old) == {
        "density": {
            "descriptor": "backbone",
            "backbone": "vit",
            "backbone_layers": [-2, -1],
            "backbone_size": "trained",
        }
    }


def test_settings_of_a_missing_transformer_are_dropped() -> None:
    old = {"density": {"pretrained": None, "pretrained_layers": [-2, -1], "stride": 4}}
    assert group_settings(old) == {"density": {"stride": 4}}


def test_options_of_a_pretrained_transformer_become_those_of_a_backbone() -> None:
    old = ["--model.pretrained", "vit", "--model.density.pretrained=vit", "--model.pretrained_layers+=1"]
    assert translate_model_options(old) == [
        "--model.density.backbone",
        "vit",
        "--model.density.backbone=vit",
        "--model.density.backbone_layers+=1",
    ]


def test_no_two_settings_of_the_model_have_one_name() -> None:
    assert len(GROUP_OF) == sum(len(fields(group)) for group in GROUPS.values())
    assert not set(GROUP_OF) & set(GROUPS)


def _change_checkpoint(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    checkpoint = torch.load(source, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, target)
    return target


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_checkpoint_of_another_version_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    options = ["--data", "TextureDefects"] if command == "test" else [str(tmp_path)]
    best = trained / "best.ckpt"
    missing = _change_checkpoint(best, tmp_path / "missing.ckpt", lambda x: x["state_dict"].popitem())
    extra = _change_checkpoint(best, tmp_path / "extra.ckpt", lambda x: x["hyper_parameters"].update(nope=1))
    sentence = "does not hold a detector that this version can load"
    for path, reason in ((missing, ""), (extra, ": there is no setting nope of the model")):
        assert main([command, "--ckpt", str(path), "--output", str(tmp_path / "out"), *options]) == 1
        assert capsys.readouterr().err.strip().endswith(f"vtadl: {path} {sentence}{reason}")


def test_settings_of_another_version_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("model: {nope: 1}")
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(tmp_path / "config.yaml")])
    sentence = "A settings file holds model.nope, a setting that this version does not have."
    assert sentence in capsys.readouterr().err

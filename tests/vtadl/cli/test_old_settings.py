"""Runs and settings of earlier versions go on with this one."""

import pytest

from vtadl.cli.old_settings import translate_file, translate_options

OLD_PLUGINS = """trainer:
  max_epochs: 3
  plugins:
  - class_path: vtadl.files.AtomicCheckpointIO
  - class_path: vtadl.distributed.SyncBatchNorm
"""


def test_plugins_that_every_trainer_has_are_not_asked_for_again() -> None:
    assert translate_file(OLD_PLUGINS) == '{"trainer": {"max_epochs": 3, "plugins": null}}'


@pytest.mark.parametrize("text", ["", "nothing", "a: [", "trainer: {plugins: [x]}", "model: {width: 1e-3}"])
def test_other_settings_stay_as_they_are(text: str) -> None:
    assert translate_file(text) == text


def test_fit_of_the_data_is_their_resize_mode() -> None:
    old = "data: {class_path: MVTecAD, init_args: {root: parts, fit: crop}}"
    new = '{"data": {"class_path": "MVTecAD", "init_args": {"root": "parts", "resize_mode": "crop"}}}'
    assert translate_file(old) == new
    assert translate_options(["fit", "--data.fit=crop", "--data.root", "fit"]) == [
        "fit",
        "--data.resize_mode=crop",
        "--data.root",
        "fit",
    ]

"""Runs and settings of earlier versions go on with this one."""

import pytest

from vtadl.cli.old_settings import translate_settings

OLD_PLUGINS = """trainer:
  max_epochs: 3
  plugins:
  - class_path: vtadl.files.AtomicCheckpointIO
  - class_path: vtadl.distributed.SyncBatchNorm
"""


def test_plugins_that_every_trainer_has_are_not_asked_for_again() -> None:
    assert translate_settings(OLD_PLUGINS) == '{"trainer": {"max_epochs": 3, "plugins": null}}'


@pytest.mark.parametrize("text", ["", "nothing", "a: [", "trainer: {plugins: [x]}", "model: {width: 1e-3}"])
def test_other_settings_stay_as_they_are(text: str) -> None:
    assert translate_settings(text) == text

import csv
import json
import re
import sys
from functools import partial
from importlib.metadata import version

import pytest
import torch

from vtadl.cli import demo
from vtadl.cli.commands import COMMANDS, main
from vtadl.cli.config_files import config_names
from vtadl.lightning_module import AnomalyDetector
from vtadl.settings import make_settings

SIZES = ["image_size=32", "width=16", "depth=1", "heads=2", "mlp_width=16", "bottleneck=16", "features=8"]


def losses_of(path):
    """Reads the metrics of a run, without those that depend on time."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "usage: vtadl" in capsys.readouterr().out


def test_the_help_of_a_data_set_names_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--data.help", "MVTecAD"])
    assert capsys.readouterr().out.startswith("usage: vtadl ")


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vtadl {version('vtadl-ext')}\n"


def test_an_unknown_command_is_refused(capsys):
    assert main(["train"]) == 2
    assert "there is no command train" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--config {}", "--config={}"])
def test_settings_that_are_not_text_are_named(capsys, tmp_path, option):
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\x89PNG")
    assert main(["fit", *option.format(path).split()]) == 1
    assert f"vtadl: settings {path} are not text" in capsys.readouterr().err


def test_settings_that_are_not_yaml_are_named(capsys, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("model: [1,\nwidth: }")
    assert main(["fit", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert f"vtadl: settings {path} are not YAML" in said
    assert "line 2" in said


def test_settings_with_many_aliases_are_refused(capsys, tmp_path):
    path = tmp_path / "settings.yaml"
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]
    path.write_text("\n".join(["a0: &a0 [0]", *levels]))
    assert main(["fit", "--config", str(path)]) == 1
    assert f"vtadl: settings {path} have 90 aliases; at most 16 are allowed" in capsys.readouterr().err


def test_only_config_names_are_looked_up_among_the_packaged_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    with pytest.raises(SystemExit):
        main(["fit", "--config", "mnist", "--output", "mnist", "--print_config"])
    printed = capsys.readouterr().out
    assert "image_size: 28" in printed
    assert "output: mnist\n" in printed


@pytest.mark.parametrize("name", config_names())
def test_packaged_settings_are_found_by_name(capsys, name):
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", name, "--print_config"])
    assert exit_.value.code == 0
    size = {"mnist": 28, "small": "null"}.get(name, 512)
    assert f"    image_size: {size}\n" in capsys.readouterr().out


def test_backbone_is_short_for_an_option_of_the_model(capsys):
    for option in ("--backbone", "--model.backbone", "--model.density.backbone"):
        with pytest.raises(SystemExit) as exit_:
            main(["fit", "--config", "small", option, "dinov2-small", "--print_config"])
        assert exit_.value.code == 0
        printed = capsys.readouterr().out
        assert "    backbone: dinov2-small\n" in printed
        assert "    image_size: null\n" in printed  # as large as the input of the backbone


def test_the_folder_of_a_run_is_complete(trained):
    assert {"best.ckpt", "last.ckpt", "config.yaml", "metrics.csv"} <= {
        path.name for path in trained.iterdir()
    }
    assert list(trained.glob("events.out.tfevents.*"))
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert {"train_nll", "train_mse", "train_ssim", "val_loss", "learning_rate"} <= set(rows[0])


def test_the_settings_of_a_run_train_another_one_to_the_same_losses(trained, tmp_path):
    config = f"--config={trained}/config.yaml"
    assert main(["fit", config, f"--output={tmp_path}", "--trainer.max_epochs=2"]) == 0
    losses = [losses_of(folder / "metrics.csv") for folder in (trained, tmp_path)]
    assert losses[0] == losses[1]


def test_a_run_is_tested_by_its_folder(trained, capsys):
    assert main(["test", str(trained)]) == 0
    assert "pixel_auroc" in capsys.readouterr().out
    assert 0 <= json.loads((trained / "evaluation.json").read_text())["figures"]["image_auroc"] <= 1


def test_a_run_is_not_overwritten_by_another(trained, capsys):
    before = (trained / "last.ckpt").read_bytes()
    assert main(["fit", f"--output={trained}"]) == 1
    assert f"vtadl fit --resume {trained}" in capsys.readouterr().err
    assert (trained / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "--data=MVTecAD", "--data.root=nowhere"], "there is no folder /"),
        (["fit", "--model.image_size=30"], "image_size 30x30 is not a multiple"),
        (["fit", "--trainer.max_steps=-5"], "`max_steps` must be"),
        (["test", "--ckpt_path=none.ckpt"], "there is no checkpoint none.ckpt"),
        (
            ["predict", "--checkpoint=none.ckpt", "--images=.", "--output=out"],
            "there is no checkpoint none.ckpt",
        ),
        (["fit", "--resume", "nowhere"], "there is no run in nowhere"),
        (
            ["fit", "--config=smal"],
            "there are no settings smal: it is neither a file nor one of mnist, paper",
        ),
        (["fit", "--model.heads=0"], "heads is 0; it has to be more than 0"),
        (["fit", "--data.val_count=0"], "val_count is 0"),
        (["fit", "--data=MNISTDigit", "--data.root=mnist", "--data.digit=11"], "digit must be in 0 to 9"),
        (["fit", "--data=MVTecAD", "--data.root=x", "--data.augmentation.zoom=2"], "zoom is 2.0"),
        (["fit", "--patience=-1"], "patience is -1"),
        (
            ["fit", "--trainer.accelerator=abacus"],
            "the trainer's options are invalid: You selected an invalid",
        ),
        (["report", "nowhere"], "there is no run in nowhere"),
        (["test", "--ckpt=other.ckpt"], "other.ckpt does not hold a detector"),
        (["predict", "x.png", "--ckpt=none.ckpt", "--batch_size=0"], "batch_size is 0"),
        (["demo", "--epochs=0"], "epochs is 0"),
        (["reproduce", "mnist", "--root=x", "-o", "out", "--seeds=0"], "seeds is 0"),
        (["export", "--ckpt=none.ckpt"], "there is no checkpoint none.ckpt"),
    ],
)
def test_an_input_error_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": torch.zeros(1)}, "other.ckpt")
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"vtadl: {sentence}" in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("runs/*"))  # a run that has not started leaves no folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "--resume"], "--resume needs the folder of a run"),
        (["test"], "nothing to test"),
    ],
)
def test_wrong_usage_has_its_own_exit_status(capsys, arguments, sentence):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"vtadl: {sentence}")


def test_an_output_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["fit", "--data=TextureDefects", f"--output={tmp_path}/file/run"]) == 1
    assert f"vtadl: {tmp_path}/file/run: Not a directory" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_extra_that_installs_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", f"--ckpt={trained}", "-o", str(tmp_path / "x.onnx")]) == 1
    assert "onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "--model.image_size=big"], """Parser key "model.network.image_size": .*Given value: big"""),
        (["fit", "--data=MVTecAD"], """Parser key "data": Problem with .*MVTecAD': .* are required: root"""),
        (["fit", "--data=MVTecAD", "--data.root=x", "--data.colour=red"], "Option 'colour' is not accepted"),
        (["predict", "x.png", "--ckpt=x", "--colour=red"], "unrecognized arguments: --colour=red"),
        (["predict", "--ckpt=x"], "no images are given"),
        (["data", "--data=MVTecAD"], "required: root"),
        (["export", "--ckpt=x", "--format=tf"], """Parser key "format": Choose from 'onnx', 'torch'."""),
        (["fit", "--data=Pictures"], """Parser key "data": There is no Pictures to choose."""),
    ],
)
def test_wrong_usage_is_one_sentence_after_a_short_usage(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    *usage, error = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"error: .*{sentence}.*", error)
    assert "Union" not in error
    assert len(usage) < 8


def test_the_error_of_a_loader_process_about_a_broken_image_is_one_sentence(category, tmp_path, capsys):
    for path in (category / "train/good").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    arguments = [
        "--data=MVTecAD",
        f"--data.root={category}",
        "--data.workers=1",
        "--trainer.logger=false",
    ]
    runs = ["--trainer.accelerator=cpu", f"--output={tmp_path / 'run'}"]
    assert main(["fit", *arguments, *runs, *[f"--model.{size}" for size in SIZES]]) == 1
    error = capsys.readouterr().err
    assert "vtadl: cannot read image" in error
    assert "Traceback" not in error


def test_the_demo_writes_its_report(settled, tmp_path, monkeypatch, capsys):
    density = make_settings(settled)["density"]
    monkeypatch.setattr(demo, "AnomalyDetector", partial(AnomalyDetector, density=density))
    output = tmp_path / "demo"
    sizes = ["--epochs=1", "--train_count=16", "--test_count=12", "--textures=[brick]"]
    assert main(["demo", f"--output={output}", *sizes]) == 0
    assert str(output / "index.html") in capsys.readouterr().out
    figures = json.loads((output / "metrics.json").read_text())
    assert 0 <= figures["brick"]["image_auroc"] <= 1
    page = (output / "index.html").read_text()
    assert "image AUROC" in page
    assert page.count("data:image/") > 12
    assert (output / "checkpoints/brick/best.ckpt").exists()

import csv
import json

import pytest
from PIL import Image

from vtadl.cli import config_names, main

SIZES = ["image_size=32", "width=16", "depth=1", "heads=2", "mlp_width=16", "bottleneck=16", "features=8"]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("fit", "test", "predict", "demo", "reproduce"))


@pytest.mark.parametrize("command", ["fit", "test", "predict", "demo", "reproduce"])
def test_every_command_explains_its_options(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "usage: vtadl" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys):
    assert main(["train"]) == 2
    assert "there is no command train" in capsys.readouterr().err


@pytest.mark.parametrize("name", config_names())
def test_packaged_settings_are_found_by_name(capsys, name):
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", name, "--print_config"])
    assert exit_.value.code == 0
    assert "image_size: 128" in capsys.readouterr().out or name != "small"


def test_a_users_folder_goes_from_training_to_pictures(category, tmp_path, capsys):
    folder = ["--data", "MVTecFolder", f"--data.root={category}", "--data.workers=0"]
    runs = ["--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    sizes = [f"--model.{size}" for size in SIZES]
    assert main(["fit", *folder, *runs, *sizes, "--trainer.max_epochs=2"]) == 0
    checkpoints = tmp_path / "lightning_logs/version_0/checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}

    assert (
        main(["fit", *folder, *runs, "--trainer.max_epochs=3", f"--ckpt_path={checkpoints}/last.ckpt"]) == 0
    )
    assert (tmp_path / "lightning_logs/version_1/checkpoints/last.ckpt").exists()

    capsys.readouterr()
    assert main(["test", *folder, *runs, f"--ckpt_path={checkpoints}/best.ckpt"]) == 0
    assert "pixel_auroc" in capsys.readouterr().out

    output = tmp_path / "predictions"
    images = ["--images", str(category / "test"), "--output", str(output)]
    assert main(["predict", f"--checkpoint={checkpoints}/best.ckpt", *images, "--accelerator=cpu"]) == 0
    with (output / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows][::4] == ["good/000.png", "hole/000.jpg"]
    assert all(float(row["score"]) == float(row["score"]) for row in rows)
    assert Image.open(output / "maps/hole/000.jpg.png").size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "--data=MVTecFolder", "--data.root=nowhere"], "there is no folder nowhere"),
        (["fit", "--model.image_size=30"], "image_size 30x30 is not a multiple"),
        (["fit", "--trainer.max_steps=-5"], "`max_steps` must be"),
        (["test", "--ckpt_path=none.ckpt"], "there is no checkpoint none.ckpt"),
        (
            ["predict", "--checkpoint=none.ckpt", "--images=.", "--output=out"],
            "there is no checkpoint none.ckpt",
        ),
    ],
)
def test_an_input_error_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"vtadl: {sentence}" in error
    assert "Traceback" not in error


def test_a_broken_image_met_by_a_loader_process_is_one_sentence(category, tmp_path, capsys):
    for path in (category / "train/good").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    arguments = [
        "--data=MVTecFolder",
        f"--data.root={category}",
        "--data.workers=1",
        "--trainer.logger=false",
    ]
    runs = ["--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", *arguments, *runs, *[f"--model.{size}" for size in SIZES]]) == 1
    error = capsys.readouterr().err
    assert "vtadl: cannot read image" in error
    assert "Traceback" not in error


def test_the_demo_writes_its_report(tmp_path, capsys):
    output = tmp_path / "demo"
    sizes = ["--epochs=1", "--train_count=16", "--test_count=12", "--textures=[brick]"]
    assert main(["demo", f"--output={output}", *sizes]) == 0
    assert str(output / "index.html") in capsys.readouterr().out
    figures = json.loads((output / "metrics.json").read_text())
    assert 0 <= figures["brick"]["image_auroc"] <= 1
    page = (output / "index.html").read_text()
    for picture in ("brick.png", "loss.png"):
        assert picture in page
        assert Image.open(output / picture).size[0] > 100
    assert (output / "checkpoints/brick/best.ckpt").exists()

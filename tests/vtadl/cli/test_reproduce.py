import json
import shutil

import pytest

from vtadl.cli import main, reproduce
from vtadl.errors import InputError

SMALL = {
    "image_size": 32,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "mlp_width": 16,
    "bottleneck": 16,
    "features": 8,
    "descriptor": "pixels",
    "positions": "own",
    "softness": 0.03,
    "min_std": 0.1,
    "components": 1,
}


def run(root, output, **options):
    reproduce.mvtec(str(root), str(output), seeds=options.pop("seeds", 1), epochs=1, model=SMALL, **options)
    return json.loads((output / "results.json").read_text())


@pytest.fixture
def root(category, tmp_path):
    for name in ("bottle", "screw"):
        shutil.copytree(category, tmp_path / "mvtec" / name)
    return tmp_path / "mvtec"


def test_all_classes_and_seeds_are_run_and_tabulated(root, tmp_path, capsys):
    results = run(root, tmp_path / "out", categories=["bottle", "screw"], seeds=2)
    assert set(results["runs"]) == {"bottle", "screw"}
    for seeds in results["runs"].values():
        assert set(seeds) == {"0", "1"}
        for metrics in seeds.values():
            assert {"image_auroc", "pixel_auroc", "seconds"} <= set(metrics)
    text = (tmp_path / "out/results.md").read_text()
    assert "±" in text
    assert "0.949" in text
    assert "| mean |" in text
    assert text.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({}, (256, 256)),
        ({"backbone": "dinov2-small"}, (336, 336)),
        ({"density": {"backbone": "dinov2-small"}, "image_size": 64}, (64, 64)),
    ],
)
def test_images_are_as_large_as_the_input_of_a_backbone(root, tmp_path, monkeypatch, model, size):
    sizes = []
    monkeypatch.setattr(reproduce, "_run", lambda data, *_: sizes.append(data.image_size) or {"seconds": 1.0})
    reproduce.mvtec(str(root), str(tmp_path / "out"), ["bottle"], 1, model=model)
    assert sizes == [size]


def test_existing_results_are_not_run_again(root, tmp_path, monkeypatch):
    first = run(root, tmp_path / "out", categories=["bottle"])
    monkeypatch.setattr(reproduce, "_run", lambda *_: {"image_auroc": 0.5, "seconds": 1.0})
    second = run(root, tmp_path / "out", categories=["bottle", "screw"])
    assert second["runs"]["bottle"] == first["runs"]["bottle"]
    assert second["runs"]["screw"] == {"0": {"image_auroc": 0.5, "seconds": 1.0}}


def test_results_survive_a_run_that_fails(root, tmp_path, monkeypatch):
    first = run(root, tmp_path / "out", categories=["bottle"])

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(reproduce, "_run", fail)
    with pytest.raises(OSError, match="disk full"):
        run(root, tmp_path / "out", categories=["bottle", "screw"])
    assert json.loads((tmp_path / "out/results.json").read_text()) == first


def test_results_of_different_settings_are_not_mixed(root, tmp_path):
    run(root, tmp_path / "out", categories=["bottle"])
    with pytest.raises(InputError, match="other settings"):
        reproduce.mvtec(str(root), str(tmp_path / "out"), ["bottle"], 1, 2, SMALL)


def test_results_at_different_sizes_of_masks_are_not_mixed(root, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        reproduce, "_run", lambda data, *_: sizes.append(data.evaluation_size) or {"seconds": 1.0}
    )
    path = tmp_path / "out/results.json"
    run(root, path.parent, categories=["bottle"])
    with pytest.raises(InputError, match="other settings"):
        run(root, path.parent, categories=["screw"], evaluation_size=32)
    of_earlier_version = json.loads(path.read_text())
    del of_earlier_version["settings"]["evaluation_size"]
    path.write_text(json.dumps(of_earlier_version))
    with pytest.raises(InputError, match="other settings"):
        run(root, path.parent, categories=["screw"])
    assert set(run(root, path.parent, categories=["screw"], evaluation_size=32)["runs"]) == {
        "bottle",
        "screw",
    }
    assert sizes == [None, (32, 32)]


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_damaged_results_file_is_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        reproduce.read_runs(tmp_path, "mnist", {})


def test_the_means_of_the_papers_results_are_those_in_its_tables():
    means = {name: sum(values.values()) / len(values) for name, values in reproduce.PAPER.items()}
    assert means["mnist"] == pytest.approx(0.984, abs=1e-3)
    assert means["mvtec"] == pytest.approx(0.807, abs=1e-3)


def test_the_error_about_a_missing_root_is_one_sentence(tmp_path, capsys):
    arguments = ["--root", str(tmp_path / "none"), "--output", str(tmp_path / "out"), "--digits=[8]"]
    assert main(["reproduce", "mnist", *arguments]) == 1
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"colour": 1}, "there is no setting colour of the model"),
        ({"network": {"softness": 1}}, r"there is no setting network\.softness of the model"),
        ({"network": 5}, "network is 5"),
        ({"width": "wide"}, r"model\.network\.width.*wide"),
        ({"softness": -1}, "softness is -1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_before_any_run(root, tmp_path, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        reproduce.mvtec(str(root), str(tmp_path / "out"), ["bottle"], 1, 1, SMALL | settings)
    assert not (tmp_path / "out").exists()


def test_an_option_of_the_model_with_another_group_is_refused(root, tmp_path, capsys):
    arguments = ["--root", str(root), "-o", str(tmp_path / "out"), "--model.network.softness", "0.5"]
    assert main(["reproduce", "mvtec", *arguments]) == 1
    assert "there is no setting network.softness of the model" in capsys.readouterr().err


def test_every_option_of_the_model_counts_with_or_without_its_group(root, tmp_path, monkeypatch):
    settings = []
    monkeypatch.setattr(reproduce, "_run", lambda data, given, *_: settings.append(given) or {"seconds": 1.0})
    options = ["--model.density.softness", "0.5", "--model.density.min_std=0.25", "--model.components", "3"]
    arguments = ["--root", str(root), "-o", str(tmp_path / "out"), "--categories=[bottle]", "--seeds=1"]
    assert main(["reproduce", "mvtec", *arguments, *options]) == 0
    density = settings[0]["model"]["density"]
    assert (density["softness"], density["min_std"], density["components"]) == (0.5, 0.25, 3)

"""Checkpoints of versions that always trained and saved the whole network score as they did."""

from typing import Any

import pytest
import torch

from vtadl.checkpoints import load_detector
from vtadl.cli import main
from vtadl.data import TextureDefects
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.trainer import make_trainer

NETWORK = ("embedding", "encoder", "bottleneck", "decoder", "gate")


@pytest.fixture
def save_old(gated, tmp_path):
    """Saves a detector as earlier versions did, which kept in the state what training had decided."""

    def save(gate: bool, terms: list[str]) -> tuple[AnomalyDetector, Any]:
        detector = AnomalyDetector.from_settings(**gated, terms=terms)
        data = TextureDefects(image_size=32, batch_size=8, train_count=16, val_count=16, test_count=8)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        make_trainer(tmp_path, accelerator="cpu", max_epochs=1, **quiet).fit(detector, data)
        torch.nn.init.normal_(detector.network.gate.loadings)
        path = tmp_path / "best.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["state_dict"] = detector.state_dict()
        if not gate:
            loadings = detector.network.gate.loadings
            detector.network.gate.loadings.data.zero_()
            checkpoint["state_dict"] |= {"network.gate.loadings": loadings.new_zeros(0, loadings.shape[1])}
        checkpoint["hyper_parameters"]["density"]["gated"] = None
        checkpoint["hyper_parameters"]["scoring"]["terms"] = None
        torch.save(checkpoint, path)
        return detector.eval(), path

    return save


@pytest.mark.parametrize("terms", [["nll"], ["nll", "dissimilarity"]], ids=str)
@pytest.mark.parametrize("gate", [True, False])
def test_an_old_checkpoint_scores_as_before(save_old, gate, terms):
    before, path = save_old(gate, terms)
    loaded = load_detector(path)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images).image, before(images).image)
        assert torch.equal(loaded(images).map, before(images).map)
    assert loaded.trains == (gate or len(terms) > 1)
    kept = {name for name, _ in loaded.network.named_children()} & set(NETWORK)
    assert kept == {name for name in NETWORK if loaded.trains and (gate or name != "gate")}


def test_lightning_refuses_an_old_checkpoint_rather_than_to_score_otherwise(save_old):
    before, path = save_old(False, ["nll"])
    images = torch.rand(4, 3, 32, 32)
    loaded = AnomalyDetector.load_from_checkpoint(path, weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images).image, before(images).image)
    for gate, terms in ((True, ["nll"]), (False, ["nll", "mse"])):
        _, path = save_old(gate, terms)
        with pytest.raises(RuntimeError, match=r"network\.encoder"):
            AnomalyDetector.load_from_checkpoint(path, weights_only=True)


@pytest.mark.parametrize("gate", [True, False])
def test_the_commands_take_an_old_checkpoint(save_old, gate, tmp_path, capsys):
    _, path = save_old(gate, ["nll"])
    data = ["--data=TextureDefects", "--data.test_count=8"]
    options = [*data, "--trainer.accelerator=cpu", f"--output={tmp_path / 'test'}"]
    assert main(["test", f"--ckpt={path}", *options]) == 0
    assert "image_auroc" in capsys.readouterr().out

import pytest
import torch

from vtadl.model import Mixture, Prediction
from vtadl.scoring import AnomalyScorer, Moments, largest_mean, smooth
from vtadl_ext import MixtureHead


def predict(reconstruction: torch.Tensor) -> Prediction:
    empty = torch.empty(0)
    return Prediction(reconstruction, empty, Mixture(MixtureHead(1, 1, 1), empty))


def test_moments_of_batches_are_those_of_all_values():
    values = torch.randn(100, 2) * torch.tensor([3.0, 0.1]) + torch.tensor([50.0, -1.0])
    moments = Moments(2)
    moments.reset()
    for batch in values.split([1, 40, 59]):
        moments.update(batch)
    expected = (values - values.mean(0)) / values.std(0, correction=0)
    torch.testing.assert_close(moments.standardise(values), expected, atol=1e-3, rtol=1e-3)


def test_before_any_normal_image_scores_are_plain():
    values = torch.randn(4, 2)
    torch.testing.assert_close(Moments(2).standardise(values), values)


def test_scores_are_the_mean_of_standardised_terms():
    scorer = AnomalyScorer((2, 2), ["mse", "nll"], ["error"], top_patches=1, smoothing=0.0)
    scorer.reset()
    images, nll = torch.rand(50, 3, 16, 16), torch.randn(50, 2, 2)
    prediction = predict(torch.rand(50, 3, 16, 16))
    for part in (slice(0, 20), slice(20, 50)):
        scorer.update(images[part], predict(prediction.reconstruction[part]), nll[part])
    scores = scorer(images, prediction, nll)

    def standardise(values):
        return (values - values.mean(0)) / values.std(0, correction=0)

    mse = (images - prediction.reconstruction).square().mean((1, 2, 3))
    expected = (standardise(mse) + standardise(nll).abs().flatten(1).amax(1)) / 2
    torch.testing.assert_close(scores.image, expected, atol=1e-4, rtol=1e-4)
    assert scores.map.shape == (50, 1, 16, 16)
    assert scores.map.mean().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("nll_value", [1.0, -1.0])
def test_a_patch_of_unusual_likelihood_lights_up_its_place_in_the_map(nll_value):
    scorer = AnomalyScorer((2, 4), ["nll"], ["nll"], top_patches=1, smoothing=1.0)
    nll = torch.zeros(1, 2, 4)
    nll[0, 1, 2] = nll_value
    image = torch.rand(1, 3, 16, 32)
    anomaly_map = scorer(image, predict(image), nll).map
    row, column = divmod(anomaly_map.flatten().argmax().item(), 32)
    assert (row // 8, column // 8) == (1, 2)


def test_a_changed_square_lights_up_in_the_reconstruction_terms():
    image = torch.rand(1, 3, 32, 32)
    reconstruction = image.clone()
    reconstruction[..., 20:28, 4:12] = 1 - reconstruction[..., 20:28, 4:12]
    for term in ("error", "dissimilarity"):
        scorer = AnomalyScorer((4, 4), ["mse"], [term], top_patches=1, smoothing=2.0)
        anomaly_map = scorer(image, predict(reconstruction), torch.zeros(1, 4, 4)).map
        row, column = divmod(anomaly_map.flatten().argmax().item(), 32)
        assert 20 <= row < 28
        assert 4 <= column < 12


def test_smoothing_keeps_a_constant_image_and_spreads_a_point():
    torch.testing.assert_close(smooth(torch.ones(1, 1, 9, 5), 2.0), torch.ones(1, 1, 9, 5))
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = smooth(point, 2.0)
    offsets = torch.arange(33.0) - 16
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(-1).flatten() * offsets.square()).sum().item() == pytest.approx(4, rel=0.05)


def test_largest_mean_takes_all_values_when_there_are_few():
    values = torch.tensor([[1.0, 2.0, 6.0]])
    assert largest_mean(values, 2).item() == 4
    assert largest_mean(values, 10).item() == 3

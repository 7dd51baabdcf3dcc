import pytest
import torch

from vtadl.density import PredictedMixture
from vtadl.images.smoothing import smooth
from vtadl.model import Prediction
from vtadl.scoring.scorer import AnomalyScorer
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import RunningMoments, top_k_mean
from vtadl_ext import MixtureHead


def predict(reconstruction: torch.Tensor | None) -> Prediction:
    empty = torch.empty(0)
    return Prediction(reconstruction, empty, PredictedMixture(MixtureHead(1, 1, 1), empty))


def test_moments_of_batches_are_those_of_all_values():
    values = torch.randn(100, 2) * torch.tensor([3.0, 0.1]) + torch.tensor([50.0, -1.0])
    moments = RunningMoments(2)
    moments.reset()
    for batch in values.split([1, 40, 59]):
        moments.update(batch)
    expected = (values - values.mean(0)) / values.std(0, correction=0)
    torch.testing.assert_close(moments.standardise(values), expected, atol=1e-3, rtol=1e-3)


def test_pooled_moments_are_those_of_all_places():
    values = torch.randn(100, 3, 4) * torch.rand(3, 4) + torch.rand(3, 4)
    moments = RunningMoments(3, 4)
    moments.reset()
    moments.update(values)
    expected = (values - values.mean()) / values.std(correction=0)
    torch.testing.assert_close(moments.standardise(values, pooled=2), expected, atol=1e-4, rtol=1e-4)


def test_before_any_normal_image_scores_are_plain():
    values = torch.randn(4, 2)
    torch.testing.assert_close(RunningMoments(2).standardise(values), values)


def make_scorer(grid, size, images, predictions, nll, **options) -> AnomalyScorer:
    scorer = AnomalyScorer(grid, size, ScoringSettings(top_patches=1, **options))
    scorer.reset()
    for part in (slice(0, 20), slice(20, None)):
        scorer.update(images[part], predict(predictions[part]), nll[part])
    scorer.finish()
    return scorer


def standardise(values):
    return (values - values.mean(0)) / values.std(0, correction=0)


def test_scores_are_the_mean_of_standardised_terms():
    images, reconstructions = torch.rand(50, 3, 16, 16), torch.rand(50, 3, 16, 16)
    nll = torch.randn(50, 2, 2)
    options = {"terms": ["mse", "nll"], "normalised": False, "smoothing": 0.0}
    scorer = make_scorer((2, 2), (16, 16), images, reconstructions, nll, **options)
    scores = scorer(images, predict(reconstructions), nll)
    mse = (images - reconstructions).square().mean((1, 2, 3))
    expected = (standardise(mse) + standardise(nll.flatten(1).amax(1))) / 2
    torch.testing.assert_close(scores.image, expected, atol=1e-4, rtol=1e-4)
    assert scores.map.shape == (50, 1, 16, 16)
    assert scores.map.mean().item() == pytest.approx(0, abs=1e-3)


def test_a_normalised_place_is_compared_with_normal_images_there():
    images = torch.rand(50, 3, 16, 16)
    nll = torch.randn(50, 2, 2) * torch.tensor([[1.0, 100.0], [1.0, 1.0]])
    options = {"terms": ["nll"], "smoothing": 0.0}
    unusual = nll.mean(0, keepdim=True).clone()
    unusual[0, 0, 1], unusual[0, 1, 0] = 40.0, 20.0  # little beside the spread there, and much
    for normalised, place in ((True, (1, 0)), (False, (0, 1))):
        scorer = make_scorer((2, 2), (16, 16), images, images, nll, normalised=normalised, **options)
        anomaly_map = scorer(images[:1], predict(images[:1]), unusual).map
        row, column = divmod(anomaly_map.flatten().argmax().item(), 16)
        assert (row // 8, column // 8) == place
        if normalised:
            assert scorer(images, predict(images), nll).image.std() < 2


@pytest.mark.parametrize("normalised", [None, False, True])
def test_places_are_normalised_only_where_that_is_asked_for(normalised):
    images, nll = torch.rand(20, 3, 16, 16), torch.randn(20, 2, 2) * torch.tensor([[1.0, 9.0], [1.0, 1.0]])
    scorer = AnomalyScorer((2, 2), (16, 16), ScoringSettings(["nll"], normalised, top_patches=1))
    scorer.update(images, predict(images), nll)
    scorer.finish()
    wide, narrow = torch.zeros(2, 1, 2, 2)
    wide[..., 0, 1], narrow[..., 1, 1] = 9.0, 6.0
    scores = [scorer(images[:1], predict(images[:1]), unusual).image for unusual in (wide, narrow)]
    assert (scores[1] > scores[0]) == bool(normalised)


def test_an_unlikely_patch_lights_up_its_place_in_the_map():
    images, nll = torch.rand(4, 3, 16, 32), torch.randn(4, 2, 4)
    scorer = AnomalyScorer((2, 4), (16, 32), ScoringSettings(["nll"], False, smoothing=1.0))
    scorer.reset()
    scorer.update(images, predict(images), nll)
    scorer.finish()
    nll = torch.zeros(1, 2, 4)
    nll[0, 1, 2] = 10.0
    anomaly_map = scorer(images[:1], predict(images[:1]), nll).map
    row, column = divmod(anomaly_map.flatten().argmax().item(), 32)
    assert (row // 8, column // 8) == (1, 2)


def test_a_changed_square_lights_up_in_the_reconstruction_terms():
    image = torch.rand(1, 3, 32, 32)
    reconstruction = image.clone()
    reconstruction[..., 20:28, 4:12] = 1 - reconstruction[..., 20:28, 4:12]
    for term in ("mse", "dissimilarity"):
        scorer = AnomalyScorer((4, 4), (32, 32), ScoringSettings([term], False, smoothing=2.0))
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


def test_the_top_k_mean_takes_all_values_when_there_are_few():
    values = torch.tensor([[1.0, 2.0, 6.0]])
    assert top_k_mean(values, 2).item() == 4
    assert top_k_mean(values, 10).item() == 3


def test_what_moments_have_seen_is_judged_by_the_others():
    values, others = torch.randn(6, 3, 4), RunningMoments(3, 4)
    moments = RunningMoments(3, 4)
    for each, some in ((moments, values), (others, values[1:])):
        each.reset()
        each.update(some)
    judged = moments.standardise_positions(values, 2, leave_one_out=True)[0]
    torch.testing.assert_close(judged, others.standardise_positions(values[0], 2))


@pytest.mark.parametrize("normalised", [False, True])
def test_scores_of_the_nll_alone_need_no_reconstruction(normalised):
    images, nll = torch.rand(50, 3, 16, 16), torch.randn(50, 2, 2)
    options = {"terms": ["nll"], "normalised": normalised}
    scorer = make_scorer((2, 2), (16, 16), images, torch.rand_like(images), nll, **options)
    assert not scorer.reconstructs
    expected = scorer(images, predict(torch.rand_like(images)), nll)
    scores = scorer(images, predict(None), nll)
    assert torch.equal(scores.image, expected.image)
    torch.testing.assert_close(scores.map, expected.map)


def test_whether_a_reconstruction_is_needed_is_known_after_loading():
    states = {
        terms: AnomalyScorer((2, 2), (16, 16), ScoringSettings(terms)).state_dict()
        for terms in (("nll",), ("mse",))
    }
    scorer = AnomalyScorer((2, 2), (16, 16))
    for terms, needed in ((("mse",), True), (("nll",), False)):
        scorer.load_state_dict(states[terms])
        assert scorer.reconstructs == needed

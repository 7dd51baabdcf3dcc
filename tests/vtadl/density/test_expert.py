import pytest
import torch

from vtadl.density import ExpertSettings, Mixture
from vtadl.density.expert import Expert, shrunk_covariances
from vtadl.density.projection import Projection

POSITIONS, FEATURES = 6, 4


def correlated(count, features=FEATURES):
    """Features [N, P, D] with a mean and correlations of their own at each position."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(POSITIONS, features, features, generator=generator)
    means = 3 * torch.randn(POSITIONS, features, generator=generator)
    return means + torch.einsum("npd,pde->npe", torch.randn(count, POSITIONS, features), mixing)


def fit(x, settings, background=None):
    """Fits an expert to the coefficients of features [N, P, F]; also returns its projection."""
    projection, expert = Projection(FEATURES), Expert(settings.descriptor)
    projection.fit(x)
    pictures = None if background is None else projection(background)
    expert.fit(projection(x), projection, settings, background=pictures)
    return expert, projection


def test_shrunk_covariances_are_those_of_the_formula():
    x = correlated(8).double()
    centred = x - x.mean(0)
    scatter = torch.stack([centred[:, p].T @ centred[:, p] for p in range(POSITIONS)])
    windows = x.reshape(-1, FEATURES)
    within, total = scatter.mean(0) / 7, torch.cov(windows.T, correction=0)
    target = 7 / 8 * within + 1 / 8 * total / 2
    expected = (scatter + 20 * target) / 28
    torch.testing.assert_close(shrunk_covariances(x), expected)
    torch.testing.assert_close(shrunk_covariances(x.float()).double(), expected, rtol=1e-4, atol=1e-4)


def test_many_images_leave_the_covariances_as_they_are():
    x = correlated(20_000)
    plain = torch.stack([torch.cov(x[:, p].T) for p in range(POSITIONS)])
    torch.testing.assert_close(shrunk_covariances(x), plain, rtol=0.02, atol=0.02)


def test_a_single_image_has_half_of_the_covariance_between_its_positions():
    x = correlated(1)
    between = torch.cov(x[0].T, correction=0) / 2
    expected = (20 / 21 * between).expand(POSITIONS, -1, -1)
    torch.testing.assert_close(shrunk_covariances(x), expected)


@pytest.mark.parametrize("positions", ["own", "shared"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_leave_every_score_finite(count, positions):
    x = correlated(count)
    expert, projection = fit(x, ExpertSettings("energies", positions, 1))
    scores = expert.scores(projection(torch.cat([x, correlated(4)])))
    assert scores.shape == (count + 4, POSITIONS)
    assert scores.isfinite().all()


def test_one_component_is_a_full_gaussian_at_each_position():
    x, settings = correlated(50), ExpertSettings("energies", "own", 1, min_std=0.2, softness=0.1)
    expert, projection = fit(x, settings)
    whitened = (projection(x) * projection.whitening(0.1)).double()
    covariances = shrunk_covariances(whitened) + 0.2**2 * torch.eye(FEATURES + 1)
    gaussians = torch.distributions.MultivariateNormal(whitened.mean(0), covariances)
    expected = -gaussians.log_prob(whitened).float()
    torch.testing.assert_close(expert.scores(projection(x)), expected, rtol=1e-3, atol=1e-3)


def test_the_axes_at_each_position_are_those_of_its_covariance():
    x = correlated(200)
    expert, projection = fit(x, ExpertSettings("energies", "own", 1))
    whitened = projection(x) * expert.whitening
    axes = expert.rotation
    covariances = axes.transpose(1, 2) @ shrunk_covariances(whitened) @ axes
    off_diagonal = covariances - torch.diag_embed(covariances.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-4


@pytest.mark.parametrize("positions", ["own", "shared"])
def test_scores_are_ratios_to_one_mixture_of_the_background(positions):
    x, pictures = correlated(24), 5 * torch.randn(6, POSITIONS, FEATURES)
    settings = ExpertSettings("energies", positions, 2, background="pictures")
    expert, projection = fit(x, settings, pictures)
    features = expert.to_features(projection(pictures))
    whitened = (projection(pictures) * expert.whitening)[..., :-1].double()
    parts = (getattr(expert, f"background_{name}").double() for name in ("logits", "mu", "log_std"))
    expected = expert.mixture().nll(features, "none") - Mixture(*parts).nll(whitened, "none")
    scores = expert.scores(projection(pictures))
    torch.testing.assert_close(scores, expected.float(), rtol=1e-3, atol=1e-2)
    expert, _ = fit(x, settings._replace(background="none"), pictures)
    torch.testing.assert_close(expert.scores(projection(pictures)), expert.mixture().nll(features, "none"))


def test_a_background_without_images_is_refused():
    with pytest.raises(ValueError, match="background"):
        fit(correlated(4), ExpertSettings("pixels", "own", 2, background="pictures"))


def test_chunks_of_images_have_the_scores_of_all():
    x = correlated(40)
    expert, projection = fit(x, ExpertSettings("energies", "shared", 3))
    torch.testing.assert_close(expert.scores(projection(x)), expert(projection(x)))


def test_the_seed_decides_the_fit():
    x, settings = correlated(30), ExpertSettings("energies", "shared", 3)
    first, second = (fit(x, settings)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)

import pytest
import torch

from vtadl.density.projection import Projection


@pytest.fixture
def features():
    """Features [N, P, F] with variances that fall."""
    return torch.randn(40, 4, 16) * 0.8 ** torch.arange(16)


def fitted(features, count):
    projection = Projection(count)
    projection.fit(features)
    return projection


def test_the_projection_is_that_of_the_principal_components(features):
    projection = fitted(features, 5)
    x = features.flatten(0, 1)
    centred = x - x.mean(0)
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(projection.eigenvalues, singular[:5].square() / len(x), rtol=1e-3, atol=1e-5)
    projected = projection(x)
    expected = (centred @ axes[:5].T).abs()
    torch.testing.assert_close(projected[:, :5].abs(), expected, rtol=1e-2, atol=1e-3)
    assert projected[:, 5].mean().item() == pytest.approx(0, abs=1e-3)
    assert projected[:, 5].std().item() == pytest.approx(1, abs=0.01)


def test_the_chunks_of_a_fit_change_nothing(features):
    whole, parts = Projection(5, chunk=40), Projection(5, chunk=7)
    for projection in (whole, parts):
        projection.fit(features)
    torch.testing.assert_close(parts.eigenvalues, whole.eigenvalues)
    torch.testing.assert_close(parts(features).abs(), whole(features).abs(), rtol=1e-3, atol=1e-4)


def test_equal_channels_leave_nothing_to_the_last_feature(features):
    equal = features.repeat(1, 1, 3)
    projection = fitted(equal, 16)
    assert projection.eigenvalues.shape == (16,)
    assert projection(equal)[..., -1].abs().max() < 0.1


def test_components_that_are_rounding_are_not_used(features):
    projection = fitted(features.repeat(1, 1, 3), 40)
    assert projection.eigenvalues.shape == (16,)
    assert projection.basis.shape == (48, 16)


def test_the_last_feature_is_no_rounding_where_nothing_is_left():
    features = torch.rand(40, 4, 16)
    projection = fitted(features, 16)
    x = 10 * features
    last, exact = projection(x)[..., -1], projection.double()(x.double())[..., -1]
    torch.testing.assert_close(last.double(), exact, rtol=0, atol=1e-5)


def test_the_last_feature_rises_with_what_the_components_do_not_explain(features):
    flat = features * torch.tensor([1.0] * 3 + [0.1] * 13)
    projection = fitted(flat, 3)
    unusual = torch.rand(4, 4, 16) * torch.tensor([0.0] * 3 + [1.0] * 13)
    assert projection(unusual)[..., -1].min() > projection(flat)[..., -1].mean()


def test_whitening_goes_from_unit_variance_to_one_factor_for_all():
    projection = Projection(3)
    projection.eigenvalues = torch.tensor([4.0, 1.0, 0.25])
    torch.testing.assert_close(projection.whitening(0.0), torch.tensor([0.5, 1.0, 2.0, 1.0]))
    torch.testing.assert_close(projection.whitening(1e6)[:3], torch.full((3,), 0.5), rtol=1e-3, atol=0)

import pytest
import torch
import torch.nn.functional as F

from vtadl.density import Dictionary, DictionarySettings, Mixture
from vtadl.density.em import fit_mixtures
from vtadl.density.gating import Gate
from vtadl.density.projection import Projection
from vtadl.errors import InputError
from vtadl.features.windows import Windows
from vtadl.model import VTADLLoss

EACH = [
    DictionarySettings("pixels", "own", 2),
    DictionarySettings("pixels", "shared", 3),
    DictionarySettings("energies", "own", 2),
]
IDS = ["own", "shared", "energies"]


@pytest.fixture
def fitted(make_network, tiny):
    """Fits the dictionary of a tiny network to random images."""

    def fit(settings=EACH[0], **options):
        model = make_network(**tiny, features=12, **options)
        images = torch.rand(24, 3, 32, 32)
        model.dictionary.fit_descriptor(images, settings.descriptor)
        model.dictionary.fit(model.dictionary.pca_coefficients(images), settings)
        model.open_gate()
        return model

    return fit


def test_windows_are_centred_on_their_patches():
    images = torch.rand(2, 3, 16, 24)
    windows = Windows((16, 24), stride=4, window=8, scales=(1, 2))
    x = windows(images).unflatten(2, (2, 3, 8, 8))
    assert windows.grid == (4, 6)
    row, column = 1, 2
    expected = images[:, :, 4 * row - 2 : 4 * row + 6, 4 * column - 2 : 4 * column + 6]
    torch.testing.assert_close(x[:, row * 6 + column, 0], expected)
    pooled = F.pad(F.avg_pool2d(images, 2), (3, 3, 3, 3), mode="replicate")
    expected = pooled[:, :, 2 * row : 2 * row + 8, 2 * column : 2 * column + 8]
    torch.testing.assert_close(x[:, row * 6 + column, 1], expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stride": 5}, "not a multiple of stride 5"),
        ({"stride": 4, "scales": (3,)}, "scale 3"),
        ({"stride": 8, "window": 4}, "window is 4"),
    ],
)
def test_windows_that_do_not_fit_are_named(options, named):
    with pytest.raises(InputError, match=named):
        Windows((32, 32), **options)


def test_the_projection_is_that_of_the_principal_components():
    images = torch.rand(40, 1, 8, 8)
    extractor = Windows((8, 8), 4, 4, (1,))
    projection = Projection(5)
    projection.fit(images, extractor)
    x = extractor(images).flatten(0, 1)
    centred = x - x.mean(0)
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(projection.eigenvalues, singular[:5].square() / len(x), rtol=1e-3, atol=1e-5)
    projected = projection(x)
    expected = (centred @ axes[:5].T).abs()
    torch.testing.assert_close(projected[:, :5].abs(), expected, rtol=1e-2, atol=1e-3)
    assert projected[:, 5].mean().item() == pytest.approx(0, abs=1e-3)
    assert projected[:, 5].std().item() == pytest.approx(1, abs=0.01)


def test_equal_channels_leave_nothing_to_the_last_feature():
    images = torch.rand(40, 1, 8, 8).expand(-1, 3, -1, -1)
    extractor, projection = Windows((8, 8), 4, 4, (1,)), Projection(16)
    projection.fit(images, extractor)
    assert projection.eigenvalues.shape == (16,)
    assert projection(extractor(images))[..., -1].abs().max() < 0.1


def test_the_last_feature_is_no_rounding_where_nothing_is_left():
    images = torch.rand(40, 1, 8, 8)
    extractor, projection = Windows((8, 8), 4, 4, (1,)), Projection(16)
    projection.fit(images, extractor)
    x = extractor(10 * images)
    last, exact = projection(x)[..., -1], projection.double()(x.double())[..., -1]
    torch.testing.assert_close(last.double(), exact, rtol=0, atol=1e-5)


def test_the_last_feature_rises_with_what_the_components_do_not_explain():
    images = torch.rand(40, 1, 1, 8).expand(-1, -1, 8, -1)
    extractor, projection = Windows((8, 8), 4, 4, (1,)), Projection(3)
    projection.fit(images, extractor)
    unusual = torch.rand(4, 1, 8, 1).expand(-1, -1, -1, 8)
    assert projection(extractor(unusual))[..., -1].min() > projection(extractor(images))[..., -1].mean()


def test_whitening_goes_from_unit_variance_to_one_factor_for_all():
    projection = Projection(3)
    projection.eigenvalues = torch.tensor([4.0, 1.0, 0.25])
    torch.testing.assert_close(projection.whitening(0.0), torch.tensor([0.5, 1.0, 2.0, 1.0]))
    torch.testing.assert_close(projection.whitening(1e6)[:3], torch.full((3,), 0.5), rtol=1e-3, atol=0)


def test_em_finds_the_mixtures_of_all_columns_at_once():
    centres = torch.tensor([[-4.0, 4.0], [-10.0, 2.0]])
    chosen = torch.randint(2, (400, 2)).bool()
    means = torch.where(chosen, centres[:, 1], centres[:, 0])
    x = means[..., None] + 0.5 * torch.randn(400, 2, 3)
    mixture = fit_mixtures(x, 2, 0.01, 20, torch.Generator().manual_seed(1))
    found = mixture.mu.mean(-1).sort(dim=1).values
    torch.testing.assert_close(found, centres, atol=0.2, rtol=0)
    torch.testing.assert_close(mixture.logits.exp().sum(1), torch.ones(2), atol=1e-3, rtol=0)
    assert ((mixture.scale - 0.5).abs() < 0.15).all()


def test_em_raises_the_likelihood():
    x = torch.cat([torch.randn(200, 1, 2) - 3, 0.3 * torch.randn(200, 1, 2) + 3])

    def nll(steps):
        mixture = fit_mixtures(x, 3, 0.05, steps, torch.Generator().manual_seed(0))
        return mixture.nll(x).item()

    values = [nll(steps) for steps in (1, 3, 20)]
    assert values[0] > values[1] > values[2]


def test_em_keeps_the_floor_with_more_components_than_samples():
    mixture = fit_mixtures(torch.randn(2, 3, 4), 5, 0.3)
    assert all(tensor.isfinite().all() for tensor in mixture[:3])
    assert mixture.scale.min() >= 0.3


@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_every_output_of_a_dictionary_has_its_shape(fitted, settings):
    prediction = fitted(settings, gated=True)(torch.rand(2, 3, 32, 32))
    positions = 64 if settings.positions == "own" else 1
    assert prediction.reconstruction.shape == (2, 3, 32, 32)
    assert prediction.features.shape == (2, 64, 13)
    assert prediction.mixture.logits.shape == (2, 64, settings.components)
    assert prediction.mixture.mu.shape == (positions, settings.components, 13)


@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_a_normal_image_is_likelier_than_a_changed_one(fitted, settings):
    model = fitted(settings).eval()
    images = torch.rand(4, 3, 32, 32)
    changed = images.clone()
    changed[..., 8:16, 8:16] = 3.0
    predictions = [model(x) for x in (images, changed)]
    nll = [p.mixture.nll(p.features, reduction="none").view(4, 8, 8) for p in predictions]
    difference = nll[1] - nll[0]
    assert difference[:, 2:4, 2:4].min() > 10
    assert difference[:, 6:, 6:].abs().max() < 1


@pytest.mark.parametrize("positions", ["own", "shared"])
def test_scores_are_ratios_to_one_mixture_of_the_background(make_network, tiny, positions):
    model = make_network(**tiny, features=12)
    images, textures = torch.rand(24, 3, 32, 32), torch.rand(6, 3, 32, 32).cumsum(3) / 32
    dictionary = model.dictionary
    dictionary.fit_descriptor(images, "energies")
    normal, background = dictionary.pca_coefficients(images), dictionary.pca_coefficients(textures)
    settings = DictionarySettings("energies", positions, 2, background="pictures")
    dictionary.fit(normal, settings, background=background)
    prediction = model(textures)
    x = (background * dictionary.whitening)[..., :-1].double()
    parts = (getattr(dictionary, f"background_{name}").double() for name in ("logits", "mu", "log_std"))
    expected = prediction.mixture.nll(prediction.features, "none") - Mixture(*parts).nll(x, "none")
    scores = model.patch_scores(prediction)
    torch.testing.assert_close(scores, expected.float().view(6, 8, 8), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(dictionary.scores(background), scores.flatten(1))
    dictionary.fit(normal, settings._replace(background="none"))
    nll = dictionary.mixture().nll(dictionary(textures), "none")
    torch.testing.assert_close(dictionary.scores(background), nll)


def test_a_colour_among_grey_images_counts_with_a_background_too(make_network, tiny):
    model = make_network(**tiny, features=12)
    images = torch.rand(24, 1, 32, 32).expand(-1, 3, -1, -1)
    pictures = torch.rand(6, 1, 32, 32).cumsum(3).expand(-1, 3, -1, -1) / 32
    dictionary = model.dictionary
    dictionary.fit_descriptor(images, "energies")
    settings = DictionarySettings("energies", "shared", 2, background="pictures")
    dictionary.fit(
        dictionary.pca_coefficients(images), settings, background=dictionary.pca_coefficients(pictures)
    )
    coloured = images * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    grey, colour = (dictionary.scores(dictionary.pca_coefficients(x)) for x in (images, coloured))
    assert colour.min() > grey.max()


def test_a_background_without_images_is_refused(fitted):
    dictionary = fitted().dictionary
    settings = DictionarySettings("pixels", "own", 2, background="pictures")
    with pytest.raises(ValueError, match="background"):
        dictionary.fit(torch.rand(4, 64, 13), settings)


def test_features_of_own_positions_are_uncorrelated():
    model = Dictionary({"pixels": Windows((16, 16), 4, 4, (1,))}, 6)
    images = torch.rand(200, 1, 16, 16)
    model.fit_descriptor(images, "pixels")
    model.fit(model.pca_coefficients(images), DictionarySettings("pixels", "own", 1))
    x = model(images)
    covariance = torch.einsum("npd,npe->pde", x, x) / len(x)
    off_diagonal = covariance - torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-4


def test_the_gate_starts_from_the_weights_that_em_found(fitted):
    model = fitted(gated=True)
    logits = model(torch.rand(2, 3, 32, 32)).mixture.logits
    torch.testing.assert_close(logits, model.dictionary.logits.expand_as(logits))


def test_the_gate_sees_no_more_than_the_bottleneck():
    gate = Gate(8, (2, 2), (4, 4))
    gate.resize(3)
    torch.nn.init.normal_(gate.loadings)
    assert gate(torch.randn(5, 8)).shape == (5, 16, 3)


def test_components_stay_where_they_were_fitted_unless_they_are_trained(fitted):
    for trained in (False, True):
        model = fitted(trained=trained, gated=True)
        image = torch.rand(2, 3, 32, 32)
        VTADLLoss()(image, model(image)).total.backward()
        assert (model.dictionary.mu.grad is not None) == trained
        assert (model.dictionary.log_std.grad is not None) == trained
        assert model.gate.loadings.grad.abs().sum() > 0


@pytest.mark.parametrize("gated", [None, True, False])
@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_a_gate_exists_where_it_is_asked_for(fitted, settings, gated):
    model = fitted(settings, gated=gated)
    assert (model.gate is not None) == bool(gated)
    logits = model(torch.rand(2, 3, 32, 32)).mixture.logits
    assert logits.shape[-1] == settings.components
    assert logits.dim() == (3 if gated else 2)


@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_a_state_of_other_sizes_is_loaded(fitted, make_network, tiny, settings):
    model = fitted(settings, gated=True).eval()
    other = make_network(**tiny, features=12, gated=True).eval()
    other.load_state_dict(model.state_dict())
    image = torch.rand(2, 3, 32, 32)
    for expected, got in zip(model(image).mixture[:3], other(image).mixture[:3], strict=True):
        assert torch.equal(expected, got)


def test_a_state_of_earlier_names_is_loaded(fitted, make_network, tiny):
    model = fitted(gated=True)
    state = model.state_dict()
    for old, new in (("log_weights", "logits"), ("factors", "whitening")):
        state[f"dictionary.{old}"] = state.pop(f"dictionary.{new}")
    other = make_network(**tiny, features=12, gated=True)
    other.load_state_dict(state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_dictionary_that_is_not_fitted_says_so(make_network, tiny):
    with pytest.raises(RuntimeError, match="not fitted"):
        make_network(**tiny)(torch.rand(1, 3, 32, 32))

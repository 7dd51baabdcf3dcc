import pytest
import torch
import torch.nn.functional as F

from vtadl.density import Dictionary, ExpertSettings
from vtadl.density.dictionary import Member
from vtadl.density.expert import Expert
from vtadl.features.energies import LocalEnergies, MultiscaleEnergies
from vtadl.features.extractor import FeatureExtractor
from vtadl.features.windows import Windows
from vtadl.model import VTADLLoss

EACH = [
    ExpertSettings("pixels", "own", 2),
    ExpertSettings("pixels", "shared", 3),
    ExpertSettings("energies", "own", 2),
    ExpertSettings("multiscale-energies", "own", 1),
]
IDS = ["own", "shared", "energies", "multiscale-energies"]


@pytest.fixture
def fitted(make_network, tiny):
    """Fits the dictionary of a tiny network to random images."""

    def fit(settings=EACH[0], **options):
        model = make_network(**tiny, features=12, **options)
        model.dictionary.fit(torch.rand(24, 3, 32, 32), settings)
        model.open_gate()
        return model

    return fit


@pytest.fixture
def fitted_ensemble(make_network, tiny):
    """Fits two experts of a tiny network, whose grids differ, to random images."""

    def fit(**options):
        model = make_network(**tiny, features=12, **options)
        model.dictionary.extractors["pixels"] = Windows((32, 32), 8)
        images, members = torch.rand(24, 3, 32, 32), []
        for settings, weight in ((EACH[2], 3.0), (EACH[0], 1.0)):
            coefficients = model.dictionary.fit_projection(images, settings.descriptor)
            expert = Expert(settings.descriptor)
            expert.fit(coefficients, model.dictionary.projection(settings.descriptor), settings)
            members.append(Member(expert, weight, mean=2.0 * weight, deviation=5.0 / weight))
        model.dictionary.set_members(members)
        return model.eval()

    return fit


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
    scores = [model.patch_scores(model(x)) for x in (images, changed)]
    assert scores[0].shape == (4, 8, 8)
    difference = scores[1] - scores[0]
    assert difference[:, 2:4, 2:4].min() > 10
    assert difference[:, 6:, 6:].abs().max() < 1


@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_the_scores_of_a_single_expert_are_its_likelihoods(fitted, settings):
    model = fitted(settings).eval()
    images = torch.rand(4, 3, 32, 32)
    prediction = model(images)
    dictionary = model.dictionary
    nll = dictionary.mixture().nll(dictionary.features(images), "none").view(4, 8, 8)
    torch.testing.assert_close(model.patch_scores(prediction), nll)
    torch.testing.assert_close(prediction.nll(), nll.mean())


def test_a_colour_among_grey_images_counts_with_a_background_too(make_network, tiny):
    dictionary = make_network(**tiny, features=12).dictionary
    images = torch.rand(24, 1, 32, 32).expand(-1, 3, -1, -1)
    pictures = torch.rand(6, 1, 32, 32).cumsum(3).expand(-1, 3, -1, -1) / 32
    settings = ExpertSettings("energies", "shared", 2, background="pictures")
    dictionary.fit(images, settings, background=pictures)
    coloured = images * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    assert dictionary(coloured).min() > dictionary(images).max()


def test_a_background_without_images_is_refused(make_network, tiny):
    dictionary = make_network(**tiny, features=12).dictionary
    with pytest.raises(ValueError, match="background"):
        dictionary.fit(torch.rand(4, 3, 32, 32), ExpertSettings("pixels", "own", 2, background="pictures"))


def test_the_score_is_the_weighted_sum_of_standardised_scores(fitted_ensemble):
    model = fitted_ensemble()
    dictionary, images = model.dictionary, torch.rand(3, 3, 32, 32)
    energies, pixels = (
        expert.scores(dictionary.pca_coefficients(images, expert.descriptor)) for expert in dictionary.experts
    )
    pixels = F.interpolate(pixels.view(3, 1, 4, 4), (8, 8), mode="bilinear")[:, 0]
    expected = 0.75 * (energies.view(3, 8, 8) - 6) / (5 / 3) + 0.25 * (pixels - 2) / 5
    torch.testing.assert_close(dictionary(images), expected)
    torch.testing.assert_close(model.patch_scores(model(images)), expected)
    torch.testing.assert_close(dictionary.weights, torch.tensor([0.75, 0.25]))


def test_energies_that_two_experts_share_are_computed_once():
    size, images = (32, 32), torch.rand(4, 3, 32, 32)
    dictionary = Dictionary(
        {"energies": LocalEnergies(size, 4), "multiscale-energies": MultiscaleEnergies(size, 4)}
    )
    names = ("energies", "multiscale-energies")
    members = [
        Member(dictionary.fit_expert(dictionary.fit_projection(images, name), ExpertSettings(name, "near")))
        for name in names
    ]
    dictionary.set_members(members)
    expected = sum(
        0.5 * x.expert.scores(dictionary.pca_coefficients(images, x.expert.descriptor)) for x in members
    )
    calls = []
    dictionary.extractors["energies"].register_forward_hook(lambda *_: calls.append(1))
    dictionary.extractors["multiscale-energies"].fine.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(dictionary(images).flatten(1), expected)
    assert len(calls) == 1


@pytest.mark.parametrize("finest", ["energies", "pixels"])
def test_the_grid_is_the_finest_of_the_descriptors(finest):
    strides = {"energies": 8, "pixels": 8} | {finest: 4}
    extractors = {
        "energies": LocalEnergies((32, 48), strides["energies"]),
        "pixels": Windows((32, 48), strides["pixels"]),
    }
    dictionary = Dictionary(extractors, 12)
    assert dictionary.grid == (8, 12)
    dictionary.fit(torch.rand(24, 3, 32, 48), EACH[2])
    assert dictionary(torch.rand(2, 3, 32, 48)).shape == (2, 8, 12)


def test_descriptors_without_an_expert_are_dropped(fitted, fitted_ensemble):
    assert fitted(EACH[2]).dictionary.descriptors == {"energies"}
    model = fitted_ensemble()
    assert model.dictionary.descriptors == {"energies", "pixels"}
    assert not [name for name in model.state_dict() if "multiscale" in name]


def test_the_gate_starts_from_the_weights_that_em_found(fitted):
    model = fitted(gated=True)
    logits = model(torch.rand(2, 3, 32, 32)).mixture.logits
    torch.testing.assert_close(logits, model.dictionary.expert.logits.expand_as(logits))


def test_components_stay_where_they_were_fitted_unless_they_are_trained(fitted):
    for trained in (False, True):
        model = fitted(trained=trained, gated=True)
        image = torch.rand(2, 3, 32, 32)
        VTADLLoss()(image, model(image)).total.backward()
        expert = model.dictionary.expert
        assert (expert.mu.grad is not None) == trained
        assert (expert.log_std.grad is not None) == trained
        assert model.gate.loadings.grad.abs().sum() > 0


@pytest.mark.parametrize("gated", [None, True, False])
@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_a_gate_exists_where_it_is_asked_for(fitted, settings, gated):
    model = fitted(settings, gated=gated)
    assert (model.gate is not None) == bool(gated)
    prediction = model(torch.rand(2, 3, 32, 32))
    assert (prediction.mixture is not None) == bool(gated)
    assert (prediction.scores is None) == bool(gated)


@pytest.mark.parametrize("settings", EACH, ids=IDS)
def test_a_state_of_other_sizes_is_loaded(fitted, make_network, tiny, settings):
    model = fitted(settings, gated=True).eval()
    other = make_network(**tiny, features=12, gated=True).eval()
    other.load_state_dict(model.state_dict())
    image = torch.rand(2, 3, 32, 32)
    for expected, got in zip(model(image).mixture[:3], other(image).mixture[:3], strict=True):
        assert torch.equal(expected, got)


@pytest.mark.parametrize("refitted", [False, True])
def test_a_state_of_several_experts_is_loaded(fitted_ensemble, make_network, tiny, refitted):
    model = fitted_ensemble()
    other = fitted_ensemble() if refitted else make_network(**tiny, features=12).eval()
    other.dictionary.extractors["pixels"] = Windows((32, 32), 8)
    other.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(other(images).scores, model(images).scores)
    assert other.dictionary.descriptors == {"energies", "pixels"}


def old_state(state, index, names):
    """The state of a dictionary as earlier versions, which had a single expert, saved it."""
    old = {}
    for name, value in state.items():
        own = name.removeprefix("dictionary.").removeprefix("experts.0.")
        if own not in ("weights", "means", "deviations"):
            parts = own.split(".")
            own = ".".join(["projection", *parts[2:]]) if parts[0] == "projections" else own
            old[f"dictionary.{names.get(own, own)}"] = value
    old["dictionary._extra_state"] = torch.tensor(index)
    return old


@pytest.mark.parametrize("names", [{}, {"logits": "log_weights", "whitening": "factors"}], ids=["new", "old"])
@pytest.mark.parametrize(("settings", "index"), [(EACH[0], 1), (EACH[1], 1), (EACH[2], 0)], ids=IDS[:3])
def test_a_state_of_an_earlier_version_is_loaded(fitted, make_network, tiny, settings, index, names):
    model = fitted(settings).eval()
    state = old_state(model.state_dict(), index, names)
    assert "dictionary.projection.mean" in state
    state["dictionary.extractors.energies.floor"] = torch.rand(3)  # all descriptors were saved
    if settings.descriptor == "energies":
        state["dictionary.extractors.energies.floor"] = model.dictionary.extractor("energies").floor
    other = make_network(**tiny, features=12).eval()
    other.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(other(images).scores, model(images).scores)
    assert other.state_dict().keys() == model.state_dict().keys()


class Network(FeatureExtractor):
    """Features of a layer whose name resembles that of a part of the dictionary."""

    def __init__(self):
        super().__init__()
        self.grid = (2, 2)
        self.projection = torch.nn.Conv2d(3, 20, 16, 16)

    def forward(self, images):
        return self.projection(images).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("name", ["backbone", "pretrained"])
def test_the_weights_of_a_backbone_of_an_earlier_version_are_loaded(name):
    model, other = (torch.nn.ModuleDict({"dictionary": Dictionary({"backbone": Network()}, 8)}) for _ in "12")
    images = torch.rand(24, 3, 32, 32)
    with torch.no_grad():
        model["dictionary"].fit(images, ExpertSettings("backbone", "own", 2))
        state = old_state(model.state_dict(), 0, {})
        state = {key.replace("extractors.backbone.", f"extractors.{name}."): x for key, x in state.items()}
        assert f"dictionary.extractors.{name}.projection.weight" in state
        other.load_state_dict(state)
        torch.testing.assert_close(other["dictionary"](images), model["dictionary"](images))


def test_a_dictionary_that_is_not_fitted_says_so(make_network, tiny):
    with pytest.raises(RuntimeError, match="not fitted"):
        make_network(**tiny)(torch.rand(1, 3, 32, 32))

import math

import pytest
import torch
import torch.nn.functional as F

from vtadl.density import PredictedMixture
from vtadl.errors import InputError
from vtadl.model import LossSettings, Prediction, VTADLLoss
from vtadl.model.decoder import prime_factors
from vtadl.model.embedding import PatchEmbedding, sine_cosine_positions
from vtadl_ext import MixtureHead


@pytest.mark.parametrize("patch_size", [4, 8, 12, 16])
@pytest.mark.parametrize("grid", [(2, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("likelihood", ["paper", "public-code"])
def test_every_output_of_a_predicted_mixture_has_its_shape(make_network, tiny, likelihood, grid, patch_size):
    height, width = grid[0] * patch_size, grid[1] * patch_size
    sizes = {"image_size": (height, width), "patch_size": patch_size, "likelihood": likelihood}
    prediction = make_network(**tiny | sizes)(torch.rand(2, 3, height, width))
    patches = grid[0] * grid[1]
    assert prediction.reconstruction.shape == (2, 3, height, width)
    assert prediction.features.shape == (2, patches, 16)
    assert prediction.mixture.nll(prediction.features, reduction="none").shape == (2, patches)


def test_reconstruction_stays_within_the_range_of_images(make_network, tiny):
    reconstruction = make_network(**tiny, likelihood="paper")(torch.rand(4, 3, 32, 32)).reconstruction
    assert 0 <= reconstruction.min() < reconstruction.max() <= 1


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"image_size": 30}, "30x30 is not a multiple of patch_size 8"),
        ({"image_size": (32, 36)}, "32x36"),
        ({"width": 18}, "width 18"),
        ({"heads": 3}, "heads 3"),
    ],
)
def test_a_size_that_does_not_divide_is_named(make_network, tiny, sizes, named):
    with pytest.raises(InputError, match=named):
        make_network(**tiny | sizes)


def test_patches_are_embedded_row_by_row():
    embedding = PatchEmbedding((4, 8), 4, 4)
    embedding.positions.data.zero_()
    image = torch.rand(1, 3, 4, 8)
    for column in range(2):
        alone = embedding.projection(image[..., 4 * column : 4 * column + 4]).flatten()
        torch.testing.assert_close(embedding(image)[0, column], alone)


def test_no_two_positions_start_alike():
    positions = sine_cosine_positions(5, 7, 16)
    assert positions.shape == (35, 16)
    assert torch.pdist(positions).min() > 0.1


def test_noise_is_added_only_while_training(make_network, tiny):
    model, image = make_network(**tiny, likelihood="paper", noise_std=0.5), torch.rand(2, 3, 32, 32)
    first, second = model(image), model(image)
    assert not torch.equal(first.mixture.tokens, second.mixture.tokens)
    assert torch.equal(first.features, second.features)
    model.eval()
    first, second = model(image), model(image)
    assert torch.equal(first.mixture.tokens, second.mixture.tokens)
    assert torch.equal(first.reconstruction, second.reconstruction)


def test_noise_has_the_standard_deviation_asked_for(make_network, tiny):
    noise = make_network(**tiny, noise_std=0.25, gated=True).noise
    assert noise(torch.zeros(100_000)).std().item() == pytest.approx(0.25, rel=0.02)


def test_the_published_code_takes_the_likelihood_of_the_noisy_token_with_gradient(make_network, tiny):
    model, image = make_network(**tiny, likelihood="public-code", noise_std=0.5), torch.rand(2, 3, 32, 32)
    first, second = model(image), model(image)
    assert first.features.requires_grad
    assert not torch.equal(first.features, second.features)
    assert first.mixture.scale.min() > 0


def test_the_papers_likelihood_is_of_clean_tokens_without_gradient(make_network, tiny):
    model, image = make_network(**tiny, likelihood="paper"), torch.rand(2, 3, 32, 32)
    tokens = model(image).features
    assert not tokens.requires_grad
    torch.testing.assert_close(tokens, model.encoder(model.embedding(image)))


def test_tokens_have_zero_mean_and_unit_scale(make_network, tiny):
    tokens = make_network(**tiny, likelihood="paper")(torch.rand(2, 3, 32, 32)).features
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.square().mean(-1), torch.ones(2, 16), atol=1e-2, rtol=0)


@pytest.mark.parametrize("likelihood", ["paper", "public-code"])
def test_every_parameter_gets_a_gradient(make_network, tiny, likelihood):
    model, image = make_network(**tiny, likelihood=likelihood), torch.rand(2, 3, 32, 32)
    VTADLLoss()(image, model(image)).total.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_loss_is_its_formula():
    image, reconstruction = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    tokens, features = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    head = MixtureHead(5, 5, 3, min_std=0.5)
    torch.nn.init.normal_(head.weight)
    loss = VTADLLoss(LossSettings(mse_weight=7.0, ssim_weight=3.0))
    terms = loss(image, Prediction(reconstruction, tokens, PredictedMixture(head, features)))

    logits, mu, log_std = head(features)
    std = log_std.exp().clamp(min=0.5)
    components = torch.distributions.Independent(torch.distributions.Normal(mu, std), 1)
    weights = torch.distributions.Categorical(logits=logits)
    nll = -torch.distributions.MixtureSameFamily(weights, components).log_prob(tokens).mean()
    torch.testing.assert_close(terms.nll, nll)
    torch.testing.assert_close(terms.mse, F.mse_loss(image, reconstruction))
    torch.testing.assert_close(terms.total, nll + 7 * terms.mse + 3 * (1 - terms.ssim))


def test_a_perfect_reconstruction_costs_nothing():
    image, zero = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 1)
    terms = VTADLLoss()(
        image, Prediction(image, zero, PredictedMixture(MixtureHead(1, 1, 1, bias=False), zero))
    )
    assert terms.mse == 0
    assert terms.ssim.item() == pytest.approx(1, abs=1e-5)
    assert terms.nll.item() == pytest.approx(0.5 * math.log(2 * math.pi), rel=1e-5)


def test_prime_factors_multiply_to_the_number():
    assert prime_factors(1) == []
    assert prime_factors(12) == [2, 2, 3]
    assert all(math.prod(prime_factors(number)) == number for number in range(1, 100))

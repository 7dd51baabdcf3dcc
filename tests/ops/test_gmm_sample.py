"""`gmm_sample`: the distribution that it draws from, and its arguments."""

import math

import pytest
import torch

from vtadl_ext import gmm_log_prob, gmm_sample, reference

from .comparison import DTYPES, assert_close, dtype_id
from .mixtures import SCALE_PARAMS, random_mixture, raw_scale

INF = math.inf
COUNT = 20_000


@pytest.fixture
def generator(compiled_device):
    return torch.Generator(compiled_device).manual_seed(0)


def without_x(shapes, device, **options):
    """A mixture that has no samples yet."""
    mixture = random_mixture((1,), *shapes, device=device, **options)
    del mixture["x"]
    return mixture


def assert_probabilities(hits, expected):
    """Frequencies of COUNT independent draws, to five standard errors."""
    error = (hits.double().mean(0).cpu() - expected).abs()
    assert (error <= 5 * (expected * (1 - expected) / COUNT).sqrt() + 1 / COUNT).all(), error


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_one_feature_has_the_cumulative_distribution_of_the_mixture(compiled_device, generator, scale_param):
    mixture = without_x([(3, 4), (3, 4, 1), (4, 1)], compiled_device, scale_param=scale_param)
    x = gmm_sample(**mixture, scale_param=scale_param, sample_shape=(COUNT,), generator=generator)
    assert x.shape == (COUNT, 3, 1)
    plain = random_mixture((1,), (3, 4), (3, 4, 1), (4, 1), dtype=torch.float64)
    for level in (-1.5, -0.5, 0.0, 0.4, 1.7):
        below = torch.special.ndtr((level - plain["mu"]) / plain["scale"].exp()).squeeze(-1)
        assert_probabilities(x.squeeze(-1) < level, (plain["logits"].softmax(-1) * below).sum(-1))


@pytest.mark.parametrize("tril", [False, True], ids=["diagonal", "tril"])
def test_means_and_covariances_are_those_of_the_mixture(compiled_device, generator, tril):
    scale = {"scale_tril": (3, 2, 2)} if tril else {"scale": (3, 2)}
    mixture = without_x([(3,), (3, 2)], compiled_device, **scale)
    x = gmm_sample(**mixture, sample_shape=(COUNT,), generator=generator).double().cpu()
    exact = {name: tensor.double().cpu() for name, tensor in mixture.items()}
    factor = exact["scale_tril"].tril() if tril else exact["scale"].exp().diag_embed()
    pi, mu = exact["logits"].softmax(-1), exact["mu"]
    mean = pi @ mu
    covariance = torch.einsum("k,kij->ij", pi, factor @ factor.mT + mu.unsqueeze(-1) * mu.unsqueeze(-2))
    covariance -= mean.outer(mean)
    assert_close("mean", x.mean(0), mean, 0.05, at_least=1.0)
    assert_close("covariance", x.T.cov(), covariance, 0.05)


def test_components_come_as_often_as_their_weights_say_and_masked_ones_never(compiled_device, generator):
    logits = torch.tensor(
        [[0.0, -INF, 1.0, 2.0, -INF], [-INF, 0.0, -INF, -INF, -INF]], device=compiled_device
    )
    mu = torch.arange(5.0, device=compiled_device).unsqueeze(-1)
    mu[[1, 4]] = mu.new_tensor([[1.0], [math.nan]])
    x = gmm_sample(logits, mu, mu.new_full((1, 1), -20.0), sample_shape=(COUNT,), generator=generator)
    drawn = x.round().squeeze(-1)
    for k in range(5):
        assert_probabilities(drawn == k, logits.double().softmax(-1)[:, k].cpu())
    assert torch.isin(drawn[:, 0], torch.tensor([0.0, 2.0, 3.0], device=compiled_device)).all()
    assert (drawn[:, 1] == 1).all()


@pytest.mark.parametrize("sample_shape", [(COUNT,), ()], ids=["one_mixture", "many_mixtures"])
def test_a_single_sample_is_drawn_like_many(compiled_device, generator, sample_shape):
    logits = torch.tensor([0.0, -INF, 1.0, 2.0, -INF], device=compiled_device)
    mu = torch.arange(5.0, device=compiled_device).unsqueeze(-1)
    leading = () if sample_shape else (COUNT,)
    x = gmm_sample(
        logits.expand(*leading, 5),
        mu,
        mu.new_full((1, 1), -20.0),
        sample_shape=sample_shape,
        generator=generator,
    )
    for k in range(5):
        assert_probabilities(x.round() == k, logits.double().softmax(-1)[k].cpu())


def test_every_feature_comes_from_the_same_component(compiled_device, generator):
    mu = torch.tensor([[-100.0, -100.0, -100.0], [100.0, 100.0, 100.0]], device=compiled_device)
    x = gmm_sample(mu.new_zeros(2), mu, mu.new_zeros(1, 1), sample_shape=(500,), generator=generator)
    assert ((x > 0).all(-1) | (x < 0).all(-1)).all()
    assert 0 < (x > 0).all(-1).sum() < 500


def test_samples_are_independent_of_each_other(compiled_device, generator):
    zeros = torch.zeros(2, 1, 1, device=compiled_device)
    x = gmm_sample(zeros[..., 0], zeros, zeros, sample_shape=(COUNT,), generator=generator).squeeze(-1)
    assert x.T.corrcoef()[0, 1].abs() < 5 / COUNT**0.5
    assert x.flatten().unique().numel() > 0.99 * 2 * COUNT


@pytest.mark.parametrize("tril", [False, True], ids=["diagonal", "tril"])
@pytest.mark.parametrize("temperature", [0.25, 2.0])
def test_temperature_sharpens_weights_and_variances(compiled_device, generator, temperature, tril):
    logits = torch.tensor([0.0, 1.0], device=compiled_device)
    mu = torch.tensor([[-50.0], [50.0]], device=compiled_device)
    scale = (
        {"scale_tril": mu.new_full((1, 1, 1), 2.0)} if tril else {"scale": mu.new_full((1, 1), math.log(2))}
    )
    options = {"temperature": temperature, "sample_shape": (COUNT,), "generator": generator}
    x = gmm_sample(logits, mu, **scale, **options).squeeze(-1)
    assert_probabilities(x.unsqueeze(-1) > 0, (logits / temperature).softmax(-1)[1:].double().cpu())
    of_second = x[x > 0] - 50
    assert abs(of_second.mean()) < 0.2
    assert_close("variance", of_second.var(), torch.tensor(4 * temperature), 0.1)


def test_temperature_0_gives_the_mean_of_the_likeliest_component(compiled_device):
    logits = torch.tensor([[0.0, 2.0, -INF], [3.0, 3.0, 1.0], [-INF, -INF, -INF]], device=compiled_device)
    mu = torch.tensor([[1.0], [2.0], [math.nan]], device=compiled_device)
    x = gmm_sample(logits, mu, mu.new_zeros(1, 1), temperature=0, sample_shape=(5,)).squeeze(-1)
    assert (x[:, 0] == 2).all()
    assert (x[:, 1] == 1).all()  # the first of equals
    assert x[:, 2].isnan().all()


def test_a_low_temperature_does_not_overflow(compiled_device):
    logits = torch.tensor([-5.0, 80.0, 79.0], device=compiled_device)
    mu = torch.tensor([[1.0], [2.0], [3.0]], device=compiled_device)
    x = gmm_sample(logits, mu, mu.new_zeros(1, 1), temperature=1e-38, sample_shape=(5,))
    assert (x == 2).all()


@pytest.mark.parametrize("temperature", [-1.0, INF, math.nan])
def test_temperatures_that_are_none_are_refused(temperature):
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"^temperature must be finite and at least 0, got "):
        gmm_sample(zeros[0], zeros, zeros, temperature=temperature)


# Shapes of logits, mu and scale, of the samples of one call, and whether the last is scale_tril.
SHAPES = {
    "one mixture": [(4,), (4, 5), (4, 5), (5,), False],
    "a mixture per row": [(2, 1, 4), (2, 1, 4, 5), (3, 4, 5), (2, 3, 5), False],
    "spherical": [(6, 4), (6, 4, 5), (6, 4, 1), (6, 5), False],
    "one mean for all features": [(6, 4), (6, 4, 1), (4, 5), (6, 5), False],
    "one scale for all components": [(6, 4), (4, 5), (1, 5), (6, 5), False],
    "one number for all scales": [(6, 4), (4, 5), (1, 1), (6, 5), False],
    "one mean for all components": [(6, 4), (1, 5), (4, 1), (6, 5), False],
    "one number for all": [(4,), (1, 1), (1, 1), (1,), False],
    "full covariances": [(6, 4), (4, 5), (6, 4, 5, 5), (6, 5), True],
    "one full covariance": [(6, 4), (6, 4, 5), (1, 5, 5), (6, 5), True],
    "one number for all means": [(6, 4), (1, 1), (1, 5, 5), (6, 5), True],
    "many correlated features": [(4,), (4, 12), (4, 12, 12), (12,), True],
    "no mixtures": [(0, 4), (4, 5), (4, 5), (0, 5), False],
}


@pytest.mark.parametrize("sample_shape", [(), (7,), [2, 3], torch.Size([0, 2])], ids=str)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=[name.replace(" ", "_") for name in SHAPES])
def test_samples_have_the_broadcast_shape(compiled_device, shapes, sample_shape):
    logits, mu, scale, expected, tril = shapes
    mixture = without_x([logits, mu], compiled_device, **{"scale_tril" if tril else "scale": scale})
    x = gmm_sample(**mixture, sample_shape=sample_shape)
    assert x.shape == (*sample_shape, *expected)
    assert x.isfinite().all()


def test_each_row_is_drawn_from_its_own_mixture(compiled_device):
    logits = torch.zeros(3, 2, device=compiled_device).fill_diagonal_(-INF)  # [-inf, 0], [0, -inf], [0, 0]
    mu = torch.tensor([[[0.0], [10.0]], [[20.0], [30.0]], [[40.0], [50.0]]], device=compiled_device)
    scale = torch.full((2, 1, 1, 1), -9.0, device=compiled_device)
    x = gmm_sample(logits, mu, scale, sample_shape=(50,)).squeeze(-1).round()
    assert x.shape == (50, 2, 3)
    assert (x[..., 0] == 10).all()
    assert (x[..., 1] == 20).all()
    assert ((x[..., 2] == 40) | (x[..., 2] == 50)).all()


@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_the_floor_holds_for_samples_too(compiled_device, generator, scale_param):
    lowest = raw_scale(scale_param, 0.0)
    zeros = torch.zeros(1, 1, device=compiled_device)
    options = {"scale_param": scale_param, "sample_shape": (COUNT,), "generator": generator}
    x = gmm_sample(zeros[0], zeros, zeros + lowest, min_std=2.0, **options)
    assert_close("standard deviation", x.std(), torch.tensor(2.0), 0.03)
    x = gmm_sample(zeros[0], zeros, zeros + lowest, **options)
    assert not x.any()


def test_mixtures_without_components_have_no_samples(compiled_device):
    mixture = without_x([(3, 4), (3, 4, 5), (3, 4, 5)], compiled_device)
    mixture["logits"][1] = -INF
    x = gmm_sample(**mixture, sample_shape=(6,))
    assert x[:, 1].isnan().all()
    assert x[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_samples_have_the_dtype_of_the_parameters(compiled_device, dtype):
    mixture = without_x([(3, 4), (3, 4, 5), (4, 5)], compiled_device, dtype=dtype)
    x = gmm_sample(**mixture)
    assert x.dtype == dtype
    assert gmm_log_prob(x, **mixture).isfinite().all()


def test_the_generator_decides(compiled_device):
    mixture = without_x([(3, 4), (3, 4, 5), (4, 5)], compiled_device)

    def draw(seed, function=gmm_sample):
        return function(**mixture, generator=torch.Generator(compiled_device).manual_seed(seed))

    state = torch.random.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(draw(1), draw(1, reference.gmm_sample))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(3)
    first = gmm_sample(**mixture)
    torch.manual_seed(3)
    assert torch.equal(gmm_sample(**mixture), first)


def test_samples_carry_no_gradients(compiled_device):
    mixture = without_x([(3, 4), (3, 4, 5), (4, 5)], compiled_device)
    assert not gmm_sample(**{name: tensor.requires_grad_() for name, tensor in mixture.items()}).requires_grad


def test_strides_do_not_matter(compiled_device):
    mixture = without_x([(6, 4), (6, 4, 5), (6, 4, 5)], compiled_device)
    strided = {name: tensor.movedim(-1, 0).contiguous().movedim(0, -1) for name, tensor in mixture.items()}
    draws = [
        gmm_sample(**each, sample_shape=(3,), generator=torch.Generator(compiled_device).manual_seed(0))
        for each in (mixture, strided)
    ]
    assert torch.equal(*draws)

"""With any precision, scores and thresholds are those of float32, or one sentence refuses it."""

import copy
import pickle
from contextlib import contextmanager, nullcontext

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtadl.common.precision import full_precision, require_precision
from vtadl.detector import Detector
from vtadl.errors import InputError
from vtadl.features.vision_transformer import VisionTransformer
from vtadl.lightning_module import AnomalyDetector

quick = settings(max_examples=20, deadline=None, derandomize=True)
HALVES = (torch.float16, torch.bfloat16)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul_precision(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def switches():
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    return [part.fp32_precision.replace("none", "ieee") for part in parts]  # neither of them rounds


surroundings = st.one_of(
    st.builds(torch.autocast, st.just("cpu"), st.sampled_from(HALVES)),
    st.builds(default_dtype, st.sampled_from([*HALVES, torch.float64])),
    st.builds(matmul_precision, st.sampled_from(["medium", "high"])),
    st.just(nullcontext()),
)
conversions = st.sampled_from(
    [
        lambda module: module,
        lambda module: module.half(),
        lambda module: module.bfloat16(),
        lambda module: module.to(torch.bfloat16),
        lambda module: module.to("cpu", torch.float16),
        lambda module: module.type(torch.float16),
        lambda module: module.double(),
        lambda module: module.double().half().float(),
        lambda module: torch.nn.Sequential(module).half()[0],
    ]
)
PARTS = (
    "",
    *("network", "network.dictionary", "network.dictionary.projections", "network.dictionary.extractors"),
    *("network.dictionary.experts", "network.dictionary.experts.0"),
    *("network.decoder", "scorer", "scorer.patch_moments", "calibration", "calibration.image", "norm"),
)


@pytest.fixture(scope="module")
def detector(trained):
    return Detector.load(trained, device="cpu")


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))


def figures(detector, images):
    detections = detector.predict(images)
    assert all(detection.map.dtype == "float32" for detection in detections)
    values = [[d.score, d.normalised_score, d.map.mean(), d.normalised_map.max()] for d in detections]
    return torch.tensor(values, dtype=torch.float32)


@quick
@given(around=surroundings, convert=conversions, part=st.sampled_from(PARTS), loaded_there=st.booleans())
def test_a_detector_scores_as_in_float32_under_any_precision_settings(
    trained, detector, images, around, convert, part, loaded_there
):
    expected = figures(detector, images)
    before = switches()
    with around:
        other = Detector.load(trained, device="cpu") if loaded_there else copy.deepcopy(detector)
        convert(other.module.get_submodule(part))
        found = figures(other, images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert switches() == before
    assert figures(pickle.loads(pickle.dumps(other)), images).equal(found)


@quick
@given(dtype=st.sampled_from([*HALVES, torch.float64]), autocast=st.booleans())
def test_each_part_computes_in_float32_under_autocast(detector, images, dtype, autocast):
    network, scorer = detector.module.network, detector.module.scorer
    pixels = torch.nn.functional.interpolate(images, detector.image_size, mode="bilinear").to(dtype)

    def everything(pixels):
        dictionary, name = network.dictionary, network.dictionary.expert.descriptor
        coefficients = dictionary.projection(name)(dictionary.extractor(name)(pixels))
        prediction = network(pixels)
        scores = network.patch_scores(prediction)
        loss = detector.module.loss(pixels, prediction)
        return [
            *(coefficients, dictionary.pca_coefficients(pixels, name), dictionary.expert(coefficients)),
            *(dictionary(pixels), dictionary.features(pixels), *prediction[:2], scores, *loss),
            *(*scorer(pixels, prediction, scores), *detector.module(pixels)),
        ]

    expected = everything(pixels.float())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = everything(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_in_training_autocast_counts_for_the_transformer_and_not_for_the_dictionary(detector, images):
    network = copy.deepcopy(detector.module.network).train()
    pixels = images[..., :32, :32]
    exact = network(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(pixels)
    assert rounded.reconstruction.dtype == torch.bfloat16
    assert torch.equal(rounded.features, exact.features)
    assert rounded.mixture.logits.dtype == torch.float32


class Values(torch.utils.data.Dataset):
    """A data set of random images."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index), dtype=torch.float32)
        return {
            "image": image,
            "label": torch.tensor(0),
            "mask": torch.zeros(1, 32, 32),
            "has_mask": torch.tensor(True),
            "kind": "good",
            "name": str(index),
        }


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(Values(), batch_size=4)

    unsharded_train_dataloader = val_dataloader = test_dataloader = train_dataloader

    def normal_dataloader(self):
        return torch.utils.data.DataLoader(Values(), batch_size=4)


CHOSEN = {
    "descriptor": "energies",
    "positions": "shared",
    "components": 3,
    "min_std": 0.1,
    "softness": 0.1,
    "background": "none",
    "terms": ["nll"],
}


def fit(sizes, **options):
    torch.manual_seed(0)
    module = AnomalyDetector.from_settings(**sizes)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **quiet,
        **options,
    )
    trainer.fit(module, Data())
    trainer.test(module, Data(), verbose=False)
    return module


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "bf16", "32"])
def test_a_fit_in_mixed_precision_has_the_thresholds_and_metrics_of_one_in_float32(tiny, precision):
    sizes = tiny | CHOSEN
    expected, module = fit(sizes), fit(sizes, precision=precision)
    for name, buffer in expected.network.dictionary.state_dict().items():
        assert torch.equal(buffer, module.network.dictionary.state_dict()[name]), name
    for name, buffer in expected.calibration.named_buffers():
        torch.testing.assert_close(dict(module.calibration.named_buffers())[name], buffer, equal_nan=True)
    assert module.evaluation.metrics == pytest.approx(expected.evaluation.metrics, nan_ok=True)


@pytest.mark.parametrize("likelihood", ["paper", "public-code"])
def test_thresholds_of_training_in_bfloat16_are_valid_in_float32(tiny, likelihood):
    module = fit(tiny | {"likelihood": likelihood}, precision="bf16-mixed")
    scores = Detector(module, "cpu").predict(torch.stack([Values()[index]["image"] for index in range(8)]))
    assert max(detection.score for detection in scores) <= module.calibration.image.value * (1 + 1e-4) + 1e-4


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_fit_under_another_default_dtype_is_in_float32(tiny, dtype, gated):
    sizes = tiny | CHOSEN | {"gated": gated}
    expected = fit(sizes)
    with default_dtype(dtype):
        module = fit(sizes)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor, equal_nan=True, msg=name)


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true", 64])
def test_unsupported_precisions_are_refused_in_one_sentence(tiny, precision):
    with pytest.raises(InputError, match=r"trainer\.precision .*true is not supported: .*use 32-true"):
        fit(tiny | CHOSEN, precision=precision)


@pytest.mark.parametrize("precision", ["transformer-engine", "transformer-engine-float16"])
def test_precisions_of_other_packages_are_refused_too(precision):
    with pytest.raises(InputError, match=r"transformer-engine.* is not supported"):
        require_precision(precision)


def test_a_backbone_is_float32(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes)
    transformers.ViTModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    patches = VisionTransformer(str(tmp_path), (32, 32))
    assert {parameter.dtype for parameter in patches.parameters()} == {torch.float32}
    images = torch.rand(1, 3, 32, 32)
    expected = patches(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(patches(images), expected)


@pytest.mark.parametrize("allowed", [True, False])
def test_switches_of_pytorch_are_restored(allowed):
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        found = switches()
        with full_precision():
            assert set(switches()) == {"ieee"}
            assert not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert switches() == found
        assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before

"""`GMMNLLLoss`, the module form of `gmm_nll`, and the functions' equals in the reference."""

import copy
import inspect
import pickle

import pytest
import torch

import vtadl_ext
from vtadl_ext import GMMNLLLoss, _binary, gmm_nll, reference

from .mixtures import per_sample, per_sample_tril

OPTIONS = {"scale_param": "softplus", "min_std": 0.5, "mixture": "weighted", "reduction": "sum"}


@pytest.mark.parametrize("options", [{}, OPTIONS, {"reduction": "none"}], ids=["defaults", "all", "one"])
def test_the_module_is_the_function(device, options):
    inputs = per_sample(5, 3, 4, device=device)
    assert torch.equal(GMMNLLLoss(**options)(*inputs.values()), gmm_nll(**inputs, **options))


def test_the_module_takes_full_covariances(device):
    inputs = per_sample_tril(5, 3, 4, device=device)
    assert torch.equal(GMMNLLLoss()(**inputs), gmm_nll(**inputs))
    with pytest.raises(ValueError, match=r"^min_std is for scale"):
        GMMNLLLoss(min_std=0.1)(**inputs)


def test_its_text_names_the_options():
    text = "GMMNLLLoss(scale_param='softplus', min_std=0.5, mixture='weighted', reduction='sum')"
    assert repr(GMMNLLLoss(**OPTIONS)) == text


def test_it_has_no_state_and_can_be_copied():
    loss = GMMNLLLoss(**OPTIONS)
    assert not loss.state_dict()
    inputs = per_sample(5, 3, 4)
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(again(**inputs), loss(**inputs))


@pytest.mark.parametrize("tensors", [per_sample, per_sample_tril], ids=["diagonal", "tril"])
@pytest.mark.parametrize("name", ["gmm_nll", "gmm_log_prob", "gmm_responsibilities"])
def test_devices_without_kernels_run_the_reference_of_each_function(monkeypatch, name, tensors):
    monkeypatch.setattr(_binary, "has_kernels", lambda *_: False)
    monkeypatch.setattr(_binary, "ops", None)
    inputs = tensors(5, 3, 4)
    options = {} if "scale_tril" in inputs else {"scale_param": "softplus", "min_std": 0.5}
    value = getattr(vtadl_ext, name)(**inputs, **options)
    assert torch.equal(value, getattr(reference, name)(**inputs, **options))


@pytest.mark.parametrize("name", ["gmm_nll", "gmm_log_prob", "gmm_responsibilities", "gmm_sample"])
def test_the_reference_has_the_same_signature(name):
    assert inspect.signature(getattr(vtadl_ext, name)) == inspect.signature(getattr(reference, name))

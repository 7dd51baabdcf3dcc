import pytest

from vtadl.density import DensitySettings, ExpertSettings
from vtadl.errors import InputError
from vtadl.tuning.candidates import candidate_experts

ALL = frozenset(["energies", "multiscale-energies", "pixels", "backbone"])


def candidates(count=200, available=ALL, **given):
    backbone = "dinov2-small" if "backbone" in available else None
    return candidate_experts(DensitySettings(backbone=backbone, **given), available, count)


def test_what_is_given_leaves_a_single_expert():
    given = {"descriptor": "energies", "positions": "own", "softness": 0.5, "min_std": 0.7}
    given |= {"components": 2, "background": "pictures"}
    assert candidates(12, **given) == [ExpertSettings(**given)]


def test_every_candidate_agrees_with_what_is_given():
    for name, value in {"positions": "own", "components": 3, "softness": 0.5, "background": "none"}.items():
        experts = candidates(**{name: value})
        assert len(experts) > 1
        assert {getattr(expert, name) for expert in experts} == {value}


def test_each_descriptor_is_tried_as_one_density_of_each_position_and_as_another():
    tried = {(expert.descriptor, expert.positions) for expert in candidates()}
    assert {name for name, positions in tried if positions == "own"} == ALL - {"pixels"}
    assert {name for name, positions in tried if positions != "own"} == ALL - {"pixels"}


@pytest.mark.parametrize("positions", ["own", "shared", "near"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_every_combination_that_is_given_has_an_expert(name, positions):
    experts = candidates(descriptor=name, positions=positions)
    assert {(expert.descriptor, expert.positions) for expert in experts} == {(name, positions)}


def test_what_is_trained_has_a_mixture():
    assert "near" not in {expert.positions for expert in candidates(gated=True)}


def test_pixels_are_described_only_if_they_are_asked_for():
    assert "pixels" not in {expert.descriptor for expert in candidates()}
    assert {expert.descriptor for expert in candidates(descriptor="pixels")} == {"pixels"}


def test_only_descriptors_that_exist_are_tried():
    experts = candidates(available=frozenset(["energies", "pixels"]))
    assert {expert.descriptor for expert in experts} == {"energies"}


@pytest.mark.parametrize(("count", "components"), [(1, 1), (15, 1), (16, 2), (80, 10), (1000, 20)])
def test_few_images_allow_few_components_at_each_position(count, components):
    experts = [x for x in candidates(count, descriptor="energies") if x.positions == "own"]
    assert [expert.components for expert in experts] == [components]


def test_no_candidate_is_tried_twice():
    experts = candidates(positions="shared", min_std=0.1, softness=0.1)
    assert len(experts) == len(set(experts))


@pytest.mark.parametrize("trained", [{"gated": True}, {"trained": True}], ids=str)
def test_nearest_windows_cannot_be_trained(trained):
    with pytest.raises(InputError, match="positions is near"):
        DensitySettings(positions="near", **trained)

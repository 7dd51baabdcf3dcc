import pytest

from vtadl.density import DensitySettings
from vtadl.density.descriptors import choose_stride, make_extractors
from vtadl.errors import InputError


@pytest.mark.parametrize(
    ("size", "stride"),
    [((128, 128), 4), ((256, 256), 8), ((336, 336), 8), ((96, 512), 4), ((512, 512), 16), ((260, 520), 4)],
    ids=str,
)
def test_an_image_has_about_32_windows_a_side(size, stride):
    assert choose_stride(size) == stride


def test_all_descriptors_exist_unless_one_is_given():
    assert list(make_extractors(DensitySettings(), (32, 32))) == ["energies", "pixels", "multiscale-energies"]
    assert list(make_extractors(DensitySettings(descriptor="pixels"), (32, 32))) == ["pixels"]


def test_energies_at_two_scales_need_even_sizes():
    settings = {"stride": 5, "scales": (1,)}
    assert list(make_extractors(DensitySettings(**settings), (30, 30))) == ["energies", "pixels"]
    with pytest.raises(InputError, match="image_size 30x30 and stride 5 have to be even"):
        make_extractors(DensitySettings(**settings, descriptor="multiscale-energies"), (30, 30))

"""The experts among which a dictionary chooses."""

from vtadl.density import DensitySettings, Descriptor, ExpertSettings

_OWN_COMPONENTS = 20
_IMAGES_PER_COMPONENT = 8  # of a mixture that belongs to one position
_EXPERTS: dict[Descriptor, tuple[ExpertSettings, ...]] = {
    "energies": (
        ExpertSettings("energies", "own", _OWN_COMPONENTS, 0.1, 0.03),
        ExpertSettings("energies", "shared", 200, 0.1, 0.1, "pictures"),
    ),
    "multiscale-energies": (
        ExpertSettings("multiscale-energies", "own", _OWN_COMPONENTS, 0.1, 0.03),
        ExpertSettings("multiscale-energies", "near", softness=0.03),
        ExpertSettings("multiscale-energies", "shared", 200, 0.1, 0.1, "pictures"),
    ),
    "pixels": (
        ExpertSettings("pixels", "own", _OWN_COMPONENTS, 0.1, 0.03),
        ExpertSettings("pixels", "shared", 200, 0.2, 1.0),
    ),
    "backbone": (
        ExpertSettings("backbone", "own", 1, 0.3, 0.001),
        ExpertSettings("backbone", "near", softness=0.001),
    ),
}


def candidate_experts(
    density: DensitySettings, available: frozenset[Descriptor], image_count: int
) -> list[ExpertSettings]:
    """The experts that agree with the given settings, for a number of images to fit them to.

    Pixels are described only if they are asked for: energies and backbones find more.

    Args:
        density: The settings; those that are null (None) leave several candidates.
        available: The descriptors that exist for images of this size.
        image_count: Number of images; few of them allow few components at each position.
    """
    given = density.given
    wanted = [given["descriptor"]] if "descriptor" in given else [d for d in _EXPERTS if d != "pixels"]
    experts = [expert for name in wanted if name in available for expert in _EXPERTS[name]]
    if density.trains:
        experts = [expert for expert in experts if expert.positions != "near"]
    if "positions" in given:
        experts = [expert for expert in experts if expert.positions == given["positions"]]
    if not experts:  # what is given is no candidate by itself
        experts = [ExpertSettings(name, given["positions"]) for name in wanted if name in available]
    return list(dict.fromkeys(_limited(expert, image_count)._replace(**given) for expert in experts))


def _limited(expert: ExpertSettings, image_count: int) -> ExpertSettings:
    """The expert with as many components as the images are enough for."""
    if expert.positions != "own":
        return expert
    return expert._replace(components=min(expert.components, max(1, image_count // _IMAGES_PER_COMPONENT)))

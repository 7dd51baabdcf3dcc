"""The settings of the detector, in groups, and the plain values that files and checkpoints hold."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from vtadl.density import DensitySettings
from vtadl.errors import InputError
from vtadl.model import LossSettings, NetworkSettings, OptimizerSettings
from vtadl.scoring.settings import ScoringSettings

GROUPS: dict[str, Any] = {
    "network": NetworkSettings,
    "density": DensitySettings,
    "loss": LossSettings,
    "scoring": ScoringSettings,
    "optimizer": OptimizerSettings,
}
GROUP_OF = {field.name: group for group, settings in GROUPS.items() for field in fields(settings)}
UNGROUPED = ("equal_norm", "equal_lighting")  # settings of the detector that belong to no group


def plain_settings(*groups: Any) -> dict[str, Any]:
    """The values of groups of settings, by the name of the group."""
    names = {settings: name for name, settings in GROUPS.items()}
    return {names[type(group)]: asdict(group) for group in groups}


def group_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings, each in its group, such as {"network": {"width": 64}}.

    A setting may also be given by its name alone, such as {"width": 64}, as in earlier versions.

    Raises:
        InputError: If the value of a group is not settings by name.
    """
    settings = _rename_pretrained(settings)
    for name in GROUPS:
        if not isinstance(settings.get(name, {}), Mapping):
            raise InputError(f"{name} is {settings[name]!r}; it has to hold settings by their names")
    grouped = {name: dict(x) if name in GROUPS else x for name, x in settings.items() if name not in GROUP_OF}
    for name, value in settings.items():
        if name in GROUP_OF:
            grouped.setdefault(GROUP_OF[name], {})[name] = value
    if "density" in grouped:
        grouped["density"] = _rename_pretrained(grouped["density"])
    return grouped


def _rename_pretrained(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the backbone from those of earlier versions, whose backbones were called `pretrained`."""
    if not {"pretrained", "pretrained_layers"} & set(settings):
        return settings
    renamed = {name: value for name, value in settings.items() if not name.startswith("pretrained")}
    if settings.get("pretrained") is not None:
        layers = settings.get("pretrained_layers", (-2, -1))
        renamed |= {
            "backbone": settings["pretrained"],
            "backbone_layers": layers,
            "backbone_size": "trained",
        }
    if renamed.get("descriptor") == "pretrained":
        renamed["descriptor"] = "backbone"
    return renamed


def make_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the detector from plain settings.

    Raises:
        InputError: If there is no setting of a name, or a value cannot be used.
    """
    grouped = group_settings(settings)
    grouped.pop("_instantiator", None)  # Lightning's, in a checkpoint
    require_known(grouped)
    return {name: GROUPS[name](**value) if name in GROUPS else value for name, value in grouped.items()}


def require_known(grouped: Mapping[str, Any]) -> None:
    """Raises InputError, which names the setting, unless the model has all of these settings."""
    for name, value in grouped.items():
        if name in GROUPS:
            unknown = [f"{name}.{setting}" for setting in value if GROUP_OF.get(setting) != name]
        else:
            unknown = [] if name in UNGROUPED else [name]
        if unknown:
            raise InputError(f"there is no setting {unknown[0]} of the model")

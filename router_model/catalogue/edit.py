"""Setting one profile in the text of a catalogue file; comments and layout of all else stay as they are. Pure."""

import msgspec
import yaml

from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.catalogue.model import PROFILES, Profile


class NotEditable(Exception):
    """The text cannot be changed safely; a person has to insert the profile."""


def with_profile(text: str, name: str, profile: Profile) -> str:
    """The text with the profile added, or its numbers replaced.

    What comes out was read back: the catalogue differs in nothing else.

    Raises:
        CatalogueRejected: the text is no valid catalogue, or the profile is not.
        NotEditable: the text is laid out in a way that is not understood.
    """
    before = load_catalogue(text)
    edited = _edited(text, name, profile)
    try:
        after = load_catalogue(edited)
    except CatalogueRejected as error:
        raise NotEditable("the profile does not fit the layout of the file") from error
    known = before.profiles.get(name, profile)
    profiles = {**before.profiles, name: msgspec.structs.replace(profile, policy=known.policy)}
    if msgspec.structs.replace(before, profiles=profiles, version="") != msgspec.structs.replace(
        after, version=""
    ):
        raise NotEditable("the profile does not fit the layout of the file")
    return edited


def profile_line(name: str, profile: Profile) -> str:
    """The profile as one line of YAML."""
    return f"{name}: {_flow(profile)}"


def _flow(profile: Profile) -> str:
    return f"{{alpha: {profile.alpha!r}, latency: {profile.latency!r}, cost: {profile.cost!r}}}"


def _edited(text: str, name: str, profile: Profile) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    profiles = _child(root, "profiles")
    if profiles is None:
        lines = [profile_line(each, known) for each, known in {**PROFILES, name: profile}.items()]
        end = "" if text.endswith("\n") else "\n"
        return text + end + "\nprofiles:\n" + "".join(f"  {line}\n" for line in lines)
    if not isinstance(profiles, yaml.MappingNode):
        raise NotEditable("profiles is not a mapping")
    known = _child(profiles, name)
    if known is not None:
        return _replaced(text, known, profile)
    if profiles.flow_style:
        at = profiles.end_mark.index - 1
        comma = ", " if profiles.value else ""
        return f"{text[:at].rstrip()}{comma}{profile_line(name, profile)}{text[at:]}"
    first = profiles.value[0][0].start_mark
    indent = " " * first.column
    return f"{text[: first.index]}{profile_line(name, profile)}\n{indent}{text[first.index :]}"


def _replaced(text: str, node: yaml.Node, profile: Profile) -> str:
    """Each number where it stands, from the last to the first, so that places before stay right."""
    if not isinstance(node, yaml.MappingNode):
        raise NotEditable("the profile is not a mapping")
    numbers = {"alpha": profile.alpha, "latency": profile.latency, "cost": profile.cost}
    for key, number in sorted(node.value, key=lambda pair: -pair[1].start_mark.index):
        if key.value in numbers:
            start, end = number.start_mark.index, number.end_mark.index
            text = f"{text[:start]}{numbers[key.value]!r}{text[end:]}"
    return text


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)

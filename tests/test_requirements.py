"""requirements.txt and constraints.txt agree with each other."""

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def requirements_of(file: str) -> dict[str, Requirement]:
    """Requirements by name. Raises InvalidRequirement for options, index URLs and invalid lines."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    by_name = {canonicalize_name(each.name): each for each in requirements}
    assert len(by_name) == len(requirements), f"{file} names a package twice"
    return by_name


def test_each_core_requirement_is_pinned_within_its_bounds():
    core, pins = requirements_of("requirements.txt"), requirements_of("constraints.txt")
    assert core.keys() == pins.keys()
    for name, pin in pins.items():
        [exact] = pin.specifier
        assert (exact.operator, pin.url, pin.marker, pin.extras) == ("==", None, None, set()), pin
        assert "*" not in exact.version, pin
        assert core[name].specifier.contains(exact.version), f"{pin} is outside of {core[name]}"


def test_the_two_opencv_wheels_are_pinned_to_one_version():
    pins = requirements_of("constraints.txt")
    assert pins["opencv-python"].specifier == pins["opencv-python-headless"].specifier

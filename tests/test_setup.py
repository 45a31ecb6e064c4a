"""What is promised in setup.cfg is what is tested."""

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]

# Extras for those who work on the library, whose tools are new throughout.
TOOLS = {"test", "bench", "docs", "dev"}


def read_pins(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {pin.name.lower(): pin for pin in pins}


def read_promises():
    """The dependencies of those who use the library."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    extras = setup["options.extras_require"]
    texts = [setup["options"]["install_requires"]]
    texts += [extras[name] for name in extras if name not in TOOLS]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


def test_the_oldest_versions_that_are_promised_are_tested():
    pins = read_pins("constraints-min.txt")
    promised = read_promises()
    assert len(promised) > 15
    for requirement in promised:
        (lower_bound,) = requirement.specifier
        (pin,) = pins[requirement.name].specifier
        assert lower_bound.operator == ">="
        assert Version(pin.version) == Version(lower_bound.version), requirement.name


def test_the_versions_that_the_tests_last_passed_with_are_among_those_promised():
    pins = read_pins("constraints.txt")
    for requirement in read_promises():
        (pin,) = pins[requirement.name].specifier
        assert requirement.specifier.contains(pin.version), requirement.name

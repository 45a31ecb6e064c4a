"""The versions promised in setup.cfg are tested, and the sdist is complete."""

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]

# Extras for developers of the library, whose tools are always recent.
TOOLS = {"test", "bench", "docs", "dev"}

# Older ones are gigabytes, for GPUs: docs/versions.md says what passed.
TRIED_BY_HAND = {"torch"}


def read_pins(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {pin.name.lower(): pin for pin in pins}


def read_promises():
    """Read the dependencies of the library's users."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    extras = setup["options.extras_require"]
    texts = [setup["options"]["install_requires"]]
    texts += [extras[name] for name in extras if name not in TOOLS]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


def test_the_oldest_promised_versions_are_tested():
    pins = read_pins("constraints-min.txt")
    promised = read_promises()
    assert len(promised) > 15
    tried = (REPOSITORY / "docs" / "versions.md").read_text()
    for requirement in promised:
        (lower_bound,) = requirement.specifier
        if requirement.name in TRIED_BY_HAND:
            assert f"{requirement.name} {lower_bound.version}" in tried
            continue
        (pin,) = pins[requirement.name].specifier
        assert lower_bound.operator == ">="
        assert Version(pin.version) == Version(lower_bound.version), requirement.name


def test_no_requirement_asks_for_a_build_of_its_own():
    """Neither CPU nor CUDA: 2.13.0+cpu and 2.13.0 both satisfy torch>=2.13.0."""
    for requirement in read_promises():
        assert "+" not in str(requirement.specifier)
        for build in ("", "+cpu", "+cu130"):
            assert requirement.specifier.contains(f"9999.0{build}"), requirement.name
    for pin in read_pins("constraints.txt").values():
        assert "+" not in str(pin.specifier)


def test_the_versions_of_the_last_passing_tests_are_promised():
    pins = read_pins("constraints.txt")
    for requirement in read_promises():
        (pin,) = pins[requirement.name].specifier
        assert requirement.specifier.contains(pin.version), requirement.name


# -- the sdist ------------------------------------------------------------------------

# Setuptools adds these to every sdist.
ALWAYS_IN_THE_SDIST = {
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}


def test_the_sdist_has_all_that_the_tests_and_the_makefile_read():
    manifest = (REPOSITORY / "MANIFEST.in").read_text().splitlines()
    packed = set(ALWAYS_IN_THE_SDIST)
    for line in manifest:
        command, *names = line.split()
        if command in ("graft", "include"):
            packed.update(names)
    readers = [REPOSITORY / "Makefile", *(REPOSITORY / "tests").rglob("*.py")]
    text = "\n".join(reader.read_text() for reader in readers)
    entries = {path.name for path in REPOSITORY.iterdir() if path.name[0] not in "._"}
    ignored = REPOSITORY / ".gitignore"  # what the targets make
    entries -= set(ignored.read_text().split()) if ignored.exists() else set()
    read = {name for name in entries if f'"{name}"' in text or f" {name}" in text}
    assert {"constraints-min.txt", "CONTRIBUTING.md", "docs", "tests"} <= read
    assert read - packed - {"sklearn_asd"} == set()


# -- scripts --------------------------------------------------------------------------


def test_documents_name_scripts_that_exist():
    pages = [REPOSITORY / name for name in ("Makefile", "CONTRIBUTING.md")]
    pages += (REPOSITORY / "docs").glob("*.md")
    pages += (REPOSITORY / "docs" / "guide").glob("*.md")
    scripts = {
        name
        for page in pages
        for name in re.findall(r"(?:benchmarks|examples)/\w+\.py", page.read_text())
    }
    assert len(scripts) > 5
    assert [name for name in scripts if not (REPOSITORY / name).exists()] == []


def test_every_benchmark_of_accuracy_has_a_target():
    makefile = (REPOSITORY / "Makefile").read_text()
    scripts = [path.name for path in (REPOSITORY / "benchmarks").glob("accuracy_*.py")]
    assert len(scripts) >= 3
    assert [name for name in scripts if f"benchmarks/{name}" not in makefile] == []

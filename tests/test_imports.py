"""Imports run down the layers, in no circle, and only when they are needed."""

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, load_clips, save_model
from sklearn_asd.presets import make_detector

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "sklearn_asd"

# From the bottom to the top. A module imports from its own or lower layers only.
LAYERS = [
    {"_version", "_base", "_utils"},
    {"audio"},
    {"features"},
    {"networks"},
    {"detectors"},
    {"meta"},
    {"audibility", "metrics", "model_selection", "presets"},
    {"datasets"},
    {"explanation"},
    {"monitoring"},
    {"plotting"},
    {"report"},
    {"persistence"},
    {"export"},
    {"_cli"},
    {"", "__main__"},  # the package itself
]

# Imports within functions, each with its reason: an optional extra, a slow start.
LAZY: dict[str, str] = {
    "sklearn_asd._cli.score: sklearn_asd.report.findings": "only --report draws",
    "sklearn_asd._cli.score: sklearn_asd.report.page": "only --report needs jinja2",
}


class Import(NamedTuple):
    """One name that a module imports from a module of the package."""

    importer: str
    module: str
    name: str | None
    lazy: bool
    place: str

    def __str__(self):
        return f"{self.importer}: {self.module}" + (f".{self.name}" * bool(self.name))


def read_modules():
    """Give the syntax tree of each module by its name, and its file.

    What a package imports when it is used stands in its __init__.pyi.
    """
    modules = {}
    for path in sorted((REPOSITORY / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        stub = path.with_suffix(".pyi")
        if stub.exists():
            path = stub
            tree.body += make_absolute(ast.parse(stub.read_text()), name).body
        modules[name.removesuffix(".__init__")] = path, tree
    return modules


def make_absolute(tree, name):
    """Name the modules that the stub of a package imports from in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1, "lazy_loader reads imports from the same package"
            package = name.removesuffix(".__init__")
            node.module = ".".join(filter(None, [package, node.module]))
            node.level = 0
    return tree


MODULES = read_modules()


def list_imports(importer, tree, file):
    """List a module's imports from the package, wherever they are."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    lazy = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, functions)
        for inner in ast.walk(outer)
    }
    return [
        Import(importer, module, name, node in lazy, f"{file}:{node.lineno}")
        for node in ast.walk(tree)
        for module, name in list_targets(node)
    ]


def list_targets(node):
    """List module and name of what an import statement imports from the package."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        return [(name, None) for name in names if name.split(".")[0] == PACKAGE]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "the package imports by full names"
        if node.module.split(".")[0] == PACKAGE:
            full = [
                (f"{node.module}.{a.name}", node.module, a.name) for a in node.names
            ]
            return [(f, None) if f in MODULES else (m, n) for f, m, n in full]
    return []


IMPORTS = [
    one
    for importer, (path, tree) in MODULES.items()
    for one in list_imports(importer, tree, path.relative_to(REPOSITORY))
]


def report(offenders):
    """List offenders with their places."""
    return sorted(f"{one.place} {one}" for one in offenders)


def find_layer(module):
    room = module.removeprefix(PACKAGE).removeprefix(".").split(".")[0]
    places = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    assert places, f"{module} has no place in LAYERS"
    return places[0]


def list_public_names(module):
    """Read a module's ``__all__``."""
    for node in MODULES[module][1].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_imports_are_found():
    assert len(MODULES) > 90
    assert len(IMPORTS) > 300
    source = """
from __future__ import annotations
import sklearn_asd.audio, numpy
if TYPE_CHECKING:
    from sklearn_asd.meta import structure, PerMachine
class Detector:
    def fit(self):
        from sklearn_asd.report.page import write_report
"""
    found = list_imports("new", ast.parse(source), "new.py")
    assert {(one.module, one.name, one.lazy, one.place) for one in found} == {
        ("sklearn_asd.audio", None, False, "new.py:3"),
        ("sklearn_asd.meta.structure", None, False, "new.py:5"),
        ("sklearn_asd.meta", "PerMachine", False, "new.py:5"),
        ("sklearn_asd.report.page", "write_report", True, "new.py:8"),
    }


def test_imports_run_down_the_layers():
    upward = [o for o in IMPORTS if find_layer(o.module) > find_layer(o.importer)]
    assert report(upward) == []


def test_no_circle_is_imported():
    graph = {module: set() for module in MODULES}
    for one in IMPORTS:
        graph[one.importer].add(one.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_functions_import_nothing_of_the_package():
    lazy = [one for one in IMPORTS if one.lazy]
    assert report(o for o in lazy if f"{o.importer}: {o.module}" not in LAZY) == []
    used = {f"{one.importer}: {one.module}" for one in lazy}
    assert set(LAZY) - used == set()


def test_only_public_names_are_imported():
    private = [
        o for o in IMPORTS if o.name and o.name not in list_public_names(o.module)
    ]
    assert report(private) == []


# -- when things are imported ----------------------------------------------------------

# Each takes longer to import than NumPy, or is an extra.
SLOW = {
    "IPython",
    "jinja2",
    "librosa",
    "matplotlib",
    "numba",
    "onnx",
    "skorch",
    "torch",
}
SLOW |= {"scipy.signal", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model"}
SLOWEST = {"numpy", "pandas", "scipy", "sklearn", "soundfile"}

# A module that only stands for another one is not loaded.
LIST_LOADED = """
import sys
kinds = {name: type(module).__module__ for name, module in sys.modules.items()}
print(*(name for name in kinds if kinds[name] != "sklearn_asd._cli.starting"))
"""

RUN_COMMAND = """
import sys
from sklearn_asd._cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
"""


def list_loaded(code, *arguments):
    """List the modules that a new process has imported once it has run some code."""
    run = [sys.executable, "-c", code + LIST_LOADED, *map(str, arguments)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_is_imported_without_what_it_uses():
    loaded = list_loaded("import sklearn_asd; dir(sklearn_asd)")
    assert loaded & (SLOW | SLOWEST) == set()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_command(option):
    loaded = list_loaded(RUN_COMMAND, option)
    assert loaded & (SLOW | SLOWEST) == set()


def test_a_model_without_networks_scores_without_torch(tmp_path):
    tone = np.sin(np.arange(32000) / 5)
    for number in range(4):
        noise = np.random.default_rng(number).normal(size=32000) / 5
        path = tmp_path / "new" / "pump" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (tone + noise) / 4, 16000)
    clips = load_clips(tmp_path / "new")
    detector = make_detector("default", contamination=0.05)
    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), detector).fit(clips)
    save_model(pipe, tmp_path / "pump.asd")
    command = ["score", tmp_path / "pump.asd", tmp_path / "new" / "pump" / "3.wav"]
    loaded = list_loaded(RUN_COMMAND, *command)
    assert "sklearn_asd.detectors.gaussian" in loaded  # the command has scored
    assert loaded & SLOW == set()


PACKAGES = sorted(name for name in MODULES if MODULES[name][0].suffix == ".pyi")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_found_and_listed(name):
    package = importlib.import_module(name)
    stated = list_public_names(name)
    assert set(stated) == set(package.__all__)
    assert set(stated) <= set(dir(package))
    for one in stated:
        assert getattr(package, one) is not None
    assert not hasattr(package, "no_such_name")

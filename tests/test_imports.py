"""Imports run down the layers, in no circle, and take public names only."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

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
LAZY: dict[str, str] = {}


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
    """Give the syntax tree of each module by its name, and its file."""
    modules = {}
    for path in sorted((REPOSITORY / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        modules[name.removesuffix(".__init__")] = path, tree
    return modules


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

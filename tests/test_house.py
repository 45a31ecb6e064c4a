"""Measures of plain code: short functions, few branches, no private names of others."""

import ast
import io
import tokenize
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "sklearn_asd"

LONGEST = 45  # code lines of a function
MOST_BRANCHES = 10  # strict complexity of a function
MOST_KIND_CHECKS = 15  # isinstance tests on estimator classes in the whole package

# Of scikit-learn, torch and NamedTuple: not ours.
FOREIGN = {
    "_asdict",
    "_get_param_names",
    "_is_avx512_bf16_supported",
    "_is_in_bad_fork",
    "_parameter_constraints",
    "_replace",
    "_schema",
    "_sk_visual_block_",
    "_validate_params",
}
FOREIGN_ESTIMATORS = {
    "_BaseComposition",
    "BaseEstimator",
    "FrozenEstimator",
    "LedoitWolf",
    "Pipeline",
    "StandardScaler",
}

BY_NAME = ("getattr", "hasattr")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {file: ast.parse(source) for file, source in SOURCES.items()}


def walk():
    """Go through the nodes of all modules, with their files."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            yield file, node


def find_code_lines(source, tree):
    """Numbers of the lines that are no docstring, comment or blank line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
    ignored |= {tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokens:
        if token.type not in ignored:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


def count_branches(function):
    """Complexity that counts loops in brackets and each ``and`` too."""
    branches = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.Assert)
    n_branches = 1
    for node in ast.walk(function):
        n_branches += isinstance(node, branches)
        if isinstance(node, ast.comprehension):
            n_branches += 1 + len(node.ifs)
        if isinstance(node, ast.BoolOp):
            n_branches += len(node.values) - 1
    return n_branches


def find_estimators():
    """Names of the classes that are estimators, ours and others'."""
    bases = {
        node.name: {ast.unparse(base).split(".")[-1] for base in node.bases}
        for _, node in walk()
        if isinstance(node, ast.ClassDef)
    }
    found = set(FOREIGN_ESTIMATORS)
    while new := {name for name in bases if bases[name] & found} - found:
        found |= new
    return found


def find_names(node):
    """Names that an expression mentions."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)]
    return {n.id if isinstance(n, ast.Name) else n.attr for n in names}


def is_kind_check(node, estimators):
    """Whether ``isinstance`` or a comparison of ``type`` names an estimator class."""
    if isinstance(node, ast.Call):
        named = ast.unparse(node.func) in ("isinstance", "issubclass")
        return named and bool(find_names(node.args[1]) & estimators)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        typed = any(ast.unparse(side).startswith("type(") for side in sides)
        return typed and bool(find_names(node) & estimators)
    return False


def find_private_use(node):
    """Give the private name that an expression takes from another object, or None."""
    if isinstance(node, ast.Attribute):
        name, owner = node.attr, ast.unparse(node.value)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
        asked = node.args[1]
        name = asked.value if isinstance(asked, ast.Constant) else ""
        owner = ast.unparse(node.args[0])
    else:
        return None
    private = name.startswith("_") and not name.startswith("__")
    own = owner in ("self", "cls", "super()")
    return name if private and not own and name not in FOREIGN else None


def report(offenders):
    """List offenders with their lines."""
    return [f"{where}: {what}" for where, what in offenders]


def test_no_function_is_long():
    long = []
    for file, tree in TREES.items():
        code = find_code_lines(SOURCES[file], tree)
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                n_lines = len(code & set(range(node.lineno, node.end_lineno + 1)))
                if n_lines > LONGEST:
                    long.append((f"{file}:{node.lineno}", f"{n_lines} lines"))
    assert report(long) == []


def test_no_function_has_many_branches():
    branched = [
        (f"{file}:{node.lineno}", f"{n} branches in {node.name}")
        for file, node in walk()
        if isinstance(node, FUNCTIONS) and (n := count_branches(node)) > MOST_BRANCHES
    ]
    assert report(branched) == []


def test_few_lines_ask_what_kind_of_estimator_they_have():
    estimators = find_estimators()
    assert {"PerMachine", "LogMelSegmenter", "IDConfidenceDetector"} <= estimators
    checks = [
        f"{file}:{node.lineno} {ast.unparse(node)}"
        for file, node in walk()
        if is_kind_check(node, estimators)
    ]
    assert len(checks) <= MOST_KIND_CHECKS, "\n".join(checks)


def test_no_object_uses_private_names_of_another():
    private = [
        (f"{file}:{node.lineno}", name)
        for file, node in walk()
        if (name := find_private_use(node))
    ]
    assert report(private) == []


def test_tests_mirror_the_folders_of_the_package():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in (REPOSITORY / "tests").glob("*/test_*.py")}
    assert len(rooms) > 10
    assert folders == rooms

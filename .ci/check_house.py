"""Rules of the house that linters do not know: lengths, one door to the model, rooms, a test file for each file.

    python .ci/check_house.py REPOSITORY

Run from outside the repository, on the installed package: in the source tree the package map hides imports.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp

LONGEST_FILE = 500
LONGEST_TRAINER = 400
LONGEST_RLHF = 250
LONGEST_FUNCTION = 80
LONGEST_MAIN = 60
# Faces, and files without anything to call.
WITHOUT_TEST = {"__init__"}


def python_files(repository: Path) -> Iterator[Path]:
    """Every file of ours."""
    for folder in ("mopref", "objectives", "scalarizers", "examples", "benchmarks", "tests", ".ci"):
        yield from sorted((repository / folder).rglob("*.py"))


def lengths(repository: Path) -> Iterator[str]:
    """Files, functions and mains that are too long."""
    limits = {"mopref/training/trainer.py": LONGEST_TRAINER, "objectives/rlhf.py": LONGEST_RLHF}
    for path in python_files(repository):
        name, text = path.relative_to(repository).as_posix(), path.read_text(encoding="utf-8")
        count, most = len(text.splitlines()), limits.get(name, LONGEST_FILE)
        if count > most:
            yield f"{name} has {count} lines: at most {most}."
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                limit = LONGEST_MAIN if node.name == "main" else LONGEST_FUNCTION
                if size > limit:
                    yield f"{name}:{node.lineno}: {node.name} has {size} lines: at most {limit}."


def doors(repository: Path) -> Iterator[str]:
    """Places outside llm/policy that ask whether a model is a PreferenceModel."""
    for path in python_files(repository):
        name = path.relative_to(repository).as_posix()
        if name.startswith(("mopref/llm/policy/", "tests/", ".ci/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                if "PreferenceModel" in ast.dump(node):
                    yield f"{name}:{node.lineno}: only mopref/llm/policy asks whether a model is a PreferenceModel."


def missing_tests(repository: Path) -> Iterator[str]:
    """Source files without a test file at the same place."""
    roots = {"mopref": repository / "tests", "objectives": repository / "tests" / "objectives"}
    roots["scalarizers"] = repository / "tests" / "scalarizers"
    for folder, tests in roots.items():
        for path in sorted((repository / folder).rglob("*.py")):
            place = path.relative_to(repository / folder)
            test = tests / place.parent / f"test_{place.stem.lstrip('_')}.py"
            if path.stem not in WITHOUT_TEST and not test.is_file():
                yield f"{folder}/{place.as_posix()} has no {test.relative_to(repository).as_posix()}."


def circles(graph: grimp.ImportGraph) -> Iterator[str]:
    """Modules that import each other in a circle; imports inside functions and for types count."""
    remaining = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    # Front.plot is the one lazy door upwards, as the contract says.
    remaining["mopref.front.front"] -= {name for name in graph.modules if name.startswith("mopref.plotting")}
    while True:
        leaves = {module for module, imported in remaining.items() if not imported & remaining.keys()}
        if not leaves:
            break
        for module in leaves:
            del remaining[module]
    # What is left lies on circles or above them.
    while True:
        imported = set().union(*remaining.values()) if remaining else set()
        tops = remaining.keys() - imported
        if not tops:
            break
        for module in tops:
            del remaining[module]
    if remaining:
        yield f"these modules import each other in a circle: {', '.join(sorted(remaining))}."


def homeless(repository: Path, graph: grimp.ImportGraph) -> Iterator[str]:
    """Modules that no layer of the contract holds."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers")
    rooms = [room.strip() for layer in layers for room in layer.replace("|", ":").split(":")]
    for module in sorted(graph.modules - {"mopref", "mopref.llm"}):
        if not any(module == room or module.startswith(f"{room}.") for room in rooms):
            yield f"{module} is in no layer of [tool.importlinter] in pyproject.toml: say where it belongs."


def main() -> None:
    """Print every breach; exit with 1 if there is one."""
    repository = Path(sys.argv[1]).resolve()
    graph = grimp.build_graph("mopref", cache_dir=None)
    breaches = [
        *lengths(repository),
        *doors(repository),
        *missing_tests(repository),
        *circles(graph),
        *homeless(repository, graph),
    ]
    print("\n".join(breaches) or "the rules of the house hold")
    sys.exit(bool(breaches))


if __name__ == "__main__":
    main()

"""Would the tests notice? Lines of the core are broken one at a time, by cosmic-ray's operators, and the tests run.

    pip install cosmic-ray
    python benchmarks/mutation.py --sample 60 --seed 0 --output outputs/mutants.json
    python benchmarks/mutation.py --again outputs/mutants.json --output outputs/mutants.json  # those that survived

Every file is tried with a seeded sample of its mutants, against the tests named beside it below. A mutant is killed
when a test fails, or takes several times its time; one that survives is printed, to be given a test or explained: a
mutant may be the same program (``>`` for ``>=`` where equality cannot be).

Each mutant is tried in a process of its own, forked from one that has imported what the tests need but for mopref.
"""

import argparse
import contextlib
import difflib
import gc
import importlib.abc
import importlib.util
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
_SCALARIZERS = (
    "achievement", "cosmos", "for_problem", "hypervolume", "inverted_pbi", "linear", "normalized", "p_norm", "pbi",
    "rays", "smooth_tchebycheff", "tchebycheff",
)  # fmt: skip
_OF_EVERY_SCALARIZER = tuple(
    f"tests/scalarizers/test_{name}.py"
    for name in ("options_of_every_scalarizer", "target_direction", "every_scalarizer", "against_pymoo")
)
_OF_EVERY_INDICATOR = ("tests/indicators/test_every_indicator.py",)
_OF_RLHF = ("tests/objectives/test_rlhf.py", "tests/objectives/test_rlhf_gradient.py")
# No plugin, no traceback, no collection of garbage at the end: each mutant would pay a second for them.
_PYTEST = tuple("-x -q --tb=no -p no:cacheprovider -p no:unraisableexception -p no:threadexception".split())
# Source files with the tests that are to notice, the nearest first.
TARGETS: dict[str, tuple[str, ...]] = {
    "mopref/scalarizer.py": (
        "tests/test_scalarizer.py",
        "tests/scalarizers/test_tchebycheff.py",
        "tests/scalarizers/test_every_scalarizer.py",
    ),
    **{
        f"scalarizers/{name}.py": (f"tests/scalarizers/test_{name}.py", *_OF_EVERY_SCALARIZER)
        for name in _SCALARIZERS
    },
    **{
        f"mopref/indicators/{name}.py": (f"tests/indicators/test_{name}.py", *_OF_EVERY_INDICATOR)
        for name in ("coverage", "distances", "front_quality", "preference", "volume")
    },
    "mopref/conditioning/svd_lora.py": (
        "tests/conditioning/test_svd_lora.py",
        "tests/conditioning/test_adapter_layer.py",
        "tests/conditioning/test_linear_layer.py",
        "tests/conditioning/test_rows_of_families.py::test_what_generation_keeps_belongs_to_as_many_rows",
        "tests/conditioning/test_preference_model.py",
    ),
    "objectives/dpo.py": (
        "tests/objectives/test_dpo.py",
        "tests/objectives/test_dpo_refusals.py",
        "tests/objectives/test_dpo_against_trl.py",
    ),
    "mopref/llm/pairs/margin_losses.py": (
        "tests/llm/pairs/test_margin_losses.py",
        "tests/objectives/test_dpo.py",
        "tests/objectives/test_dpo_against_trl.py",
    ),
    **{
        f"mopref/llm/policy_gradient/{name}.py": (f"tests/llm/policy_gradient/test_{name}.py", *_OF_RLHF)
        for name in ("grpo", "rloo", "ppo", "pull", "reward_statistics", "surrogate")
    },
    "mopref/training/checkpoint.py": (
        "tests/training/test_checkpoint.py",
        "tests/training/test_refused_resume.py",
    ),
    "mopref/training/checkpoints.py": (
        "tests/training/test_checkpoints.py",
        "tests/training/test_resumable.py",
    ),
    "mopref/training/manifest.py": ("tests/training/test_manifest.py", "tests/training/test_refused_resume.py"),
}  # fmt: skip


def mutants(source: str, count: int, seed: int) -> list[tuple[str, int, str]]:
    """A seeded sample of a source's mutants: operator, number of its occurrence, and the mutated source."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    places = []
    for name in sorted(operator_names()):
        if name.startswith("core/Variable"):
            continue  # They are given names of variables.
        operator = get_operator(name)()
        places += [(name, i) for i in range(sum(len(list(operator.mutation_positions(node))) for node in nodes))]
    random.Random(seed).shuffle(places)
    found: dict[str, tuple[str, int, str]] = {}
    for name, occurrence in places:
        text = mutate_code(source, get_operator(name)(), occurrence)
        # Annotations and docstrings are no program.
        if text is not None and _program(text) not in (None, _program(source)):
            found.setdefault(text, (name, occurrence, text))
        if len(found) == count:
            break
    return list(found.values())


def _program(source: str) -> str | None:
    """What a source does, without annotations and docstrings; ``None`` where it is no Python."""
    import ast

    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
                if argument is not None:
                    argument.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


class MutatedLoader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source than its file's."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """The module's own spec, for its name alone."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)  # type: ignore[arg-type]

    def get_code(self, name: str) -> Any:
        """The mutated source, compiled."""
        return compile(self.source, str(self.path), "exec")

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        exec(self.get_code(self.name), module.__dict__)


def module_name(path: str) -> str:
    """The module of a source file: the rooms of objectives and scalarizers lie beside the package's folder."""
    name = path.removesuffix(".py").replace("/", ".")
    return name if name.startswith("mopref.") else f"mopref.{name}"


def run_tests(path: str, source: str, tests: Sequence[str], limit: float) -> tuple[str, float]:
    """Run the tests against a source in a forked process; "killed", "survived" or "timeout", and the seconds."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 70
        with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            sys.meta_path.insert(0, MutatedLoader(module_name(path), ROOT / path, source))
            import hypothesis
            import pytest

            # The same examples for every mutant, none remembered from another, and no search for the shortest.
            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
            hypothesis.settings.register_profile(
                "mutants", database=None, deadline=None, derandomize=True, phases=phases
            )
            hypothesis.settings.load_profile("mutants")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                code = int(pytest.main([*_PYTEST, *tests]))
        os._exit(code)
    while time.perf_counter() - start < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            seconds = time.perf_counter() - start
            return ("survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"), seconds
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", limit


def difference(source: str, mutated: str) -> str:
    """The lines that differ."""
    lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


def survivors(path: str, results: Path) -> list[tuple[str, int, str]]:
    """The mutants of a file that survived in an earlier run, made anew from the lines as they are today."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / path).read_text(encoding="utf-8")
    found = []
    for result in json.loads(results.read_text(encoding="utf-8"))[path]:
        if result["outcome"] == "survived":
            operator, occurrence = result["operator"], result["occurrence"]
            text = mutate_code(source, get_operator(operator)(), occurrence)
            if text is None or difference(source, text) != result["difference"]:
                raise ValueError(f"{path} changed since {results} was written; run the sample anew.")
            found.append((operator, occurrence, text))
    return found


def tried(
    path: str, sample: int, seed: int, again: Path | None = None, nearest: bool = False
) -> Iterator[dict[str, Any]]:
    """What became of each mutant of a file, or of those that survived in the results ``again``.

    With ``nearest`` the first test file alone is run.

    Raises:
        RuntimeError: the tests fail on the file as it is.
        ValueError: the file changed since ``again`` was written.
    """
    source = (ROOT / path).read_text(encoding="utf-8")
    tests = [str(ROOT / test) for test in (TARGETS[path][:1] if nearest else TARGETS[path])]
    outcome, seconds = run_tests(path, source, tests, 900.0)
    if outcome != "survived":
        raise RuntimeError(f"the tests of {path} fail on the file as it is: {outcome} after {seconds:.0f} s.")
    for operator, occurrence, mutated in survivors(path, again) if again else mutants(source, sample, seed):
        outcome, took = run_tests(path, mutated, tests, 20 + 3 * seconds)
        yield {
            "operator": operator,
            "occurrence": occurrence,
            "outcome": outcome,
            "seconds": round(took, 1),
            "difference": difference(source, mutated),
        }


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="all by default")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON of all mutants")
    parser.add_argument("--again", type=Path, help="JSON of an earlier run, whose survivors alone are tried")
    parser.add_argument("--nearest", action="store_true", help="run the nearest test file alone, which is quicker")
    arguments = parser.parse_args()
    # What takes long to import, and is not mutated.
    import accelerate  # noqa: F401
    import hypothesis  # noqa: F401
    import moocore  # noqa: F401
    import pymoo.indicators.hv  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import transformers  # noqa: F401
    import trl  # noqa: F401
    from trl import DPOConfig, DPOTrainer  # noqa: F401

    torch.set_num_threads(1)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # What is here is not looked through again by every child.
    gc.collect()
    gc.freeze()
    results: dict[str, list[dict[str, Any]]] = json.loads(arguments.again.read_text()) if arguments.again else {}
    for path in arguments.files or (tuple(results) if arguments.again else TARGETS):
        found = {(each["operator"], each["occurrence"]): each for each in results.get(path, ())}
        for result in tried(path, arguments.sample, arguments.seed, arguments.again, arguments.nearest):
            found[result["operator"], result["occurrence"]] = result
            if result["outcome"] == "survived":
                print(f"{path}: survived {result['operator']}\n{result['difference']}", flush=True)
        results[path] = list(found.values())
        killed = sum(result["outcome"] != "survived" for result in results[path])
        late = sum(result["outcome"] == "timeout" for result in results[path])
        print(f"{path}: {killed} of {len(found)} killed ({killed / max(1, len(found)):.0%}), {late} late", flush=True)
        if arguments.output:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

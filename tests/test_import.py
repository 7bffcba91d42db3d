"""What importing costs: torch, accelerate and numpy; everything heavier comes when it is used."""

import json
import subprocess
import sys

import mopref

HEAVY = {"scipy", "pymoo", "moocore", "pandas", "matplotlib", "seaborn", "transformers", "datasets", "rich"}
# All but plotting, which is asked for where plots are wanted.
FACES = (
    "mopref",
    "mopref.cli",
    "mopref.conditioning",
    "mopref.front",
    "mopref.gradients",
    "mopref.indicators",
    "mopref.known_fronts",
    "mopref.llm",
    "mopref.llm.data",
    "mopref.llm.demo",
    "mopref.llm.evaluation",
    "mopref.llm.policy",
    "mopref.llm.policy_gradient",
    "mopref.llm.rewards",
    "mopref.objectives",
    "mopref.personal",
    "mopref.recipes",
    "mopref.samplers",
    "mopref.scalarizers",
    "mopref.training",
)


def imported(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after this."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_mopref_loads_torch_and_accelerate_and_nothing_heavier():
    """Beside what these two bring themselves."""
    own, peers = imported("from mopref import ParetoTrainer"), imported("import torch, accelerate")
    assert {"torch", "accelerate"} <= own
    assert not (own - peers) & HEAVY


def test_all_faces_together_load_nothing_heavier():
    own, peers = imported("\n".join(f"import {face}" for face in FACES)), imported("import torch, accelerate")
    assert not (own - peers) & HEAVY


def test_each_face_can_be_imported_first():
    """No circle hides behind the order in which others were imported."""
    forget = "for name in [name for name in sys.modules if name.partition('.')[0] == 'mopref']: del sys.modules[name]"
    statements = [line for face in FACES for line in (forget, f"import {face}")]
    assert "mopref" in imported("\n".join(["import sys", *statements]))


def test_the_users_names_are_there():
    names = {
        "ConcatenationModel",
        "DecisionModel",
        "DirichletSampler",
        "FiLMModel",
        "Front",
        "HypernetworkModel",
        "HypervolumeCallback",
        "LatticeSampler",
        "LowDiscrepancySampler",
        "Objective",
        "ParetoSetModel",
        "ParetoTrainer",
        "PreferenceModel",
        "PreferenceSampler",
        "Problem",
        "RowObjective",
        "SVDLoRAConfig",
        "Scalarizer",
        "StratifiedSampler",
        "TrainerCallback",
        "TrainerConfig",
        "UniformSampler",
        "VertexBiasedSampler",
        "even_preferences",
        "simplex_lattice",
    }
    assert mopref.Front.__name__ == "Front"
    assert names <= set(vars(mopref))
    assert mopref.__version__

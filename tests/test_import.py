"""What importing costs: `import mopref` is torch and accelerate at most, and only when they are needed."""

import json
import subprocess
import sys

HEAVY = ("scipy", "pymoo", "moocore", "pandas", "matplotlib", "seaborn", "transformers", "datasets")


def imported(statement):
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_mopref_alone_loads_nothing_else():
    assert not imported("import mopref") & {"torch", "accelerate", *HEAVY}


def test_everything_at_the_top_level_needs_torch_and_accelerate_only():
    own = imported("from mopref import *\nfrom mopref.objectives import *\nfrom mopref.scalarizers import *")
    peers = imported("import torch, accelerate")
    assert "torch" in own
    assert not (own - peers) & set(HEAVY)

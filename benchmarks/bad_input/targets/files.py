"""Files and folders that the library reads, with their bytes spoilt."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from torch import nn

import mopref
from benchmarks.bad_input import tiny
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.spoilt_bytes import spoil_folder
from benchmarks.bad_input.target import Target
from benchmarks.bad_input.targets.fronts import front
from benchmarks.bad_input.tiny_runs import recipe_tree
from mopref.cli.arguments import named_preferences
from mopref.conditioning.lora_names import SCALES_FILE
from mopref.llm import data
from mopref.objectives import ZDT1
from mopref.recipes import load_recipe
from mopref.scalarizers import Linear
from mopref.serving import lora_scales

__all__ = ["FORMATS", "TARGETS", "Format", "read_spoilt"]

_GROUP = "files, spoilt bytes"


class Format:
    """A format of files.

    Args:
        name: what it is called.
        write: writes right files into the working folder, under one name.
        read: reads them from there.
        numbers: what of the result must be as it was written; ``None`` where other content is another, right file.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Path], Any],
        read: Callable[[Path], Any],
        numbers: Callable[[Any], Any] | None = None,
    ) -> None:
        self.name, self._write, self.read, self.numbers = name, write, read, numbers

    @lru_cache  # noqa: B019
    def files(self) -> dict[str, bytes]:
        """The right files, by their place."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            self._write(place)
            return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}

    @lru_cache  # noqa: B019
    def right_numbers(self) -> Any:
        """The numbers of the right files."""
        with tempfile.TemporaryDirectory() as folder:
            put(self.files(), Path(folder))
            return None if self.numbers is None else self.numbers(self.read(Path(folder)))


def put(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files to their places."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_spoilt(form: Format, files: Mapping[str, bytes]) -> Any:
    """Read files that were spoilt, and check that nothing else came of them than was written."""
    folder = Path("spoilt")
    put(files, folder)
    result = form.read(folder)
    if form.numbers is not None and files != form.files() and not _equal(form.numbers(result), form.right_numbers()):
        raise Nonsense("other numbers than were written")
    return result


def _equal(first: Any, second: Any) -> bool:
    if first.keys() != second.keys():
        return False
    return all(np.array_equal(np.asarray(first[name]), np.asarray(second[name]), equal_nan=True) for name in first)


def _state(model: nn.Module) -> dict[str, Any]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def _network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def _adapter() -> mopref.PreferenceModel:
    return mopref.PreferenceModel(_network(), mopref.SVDLoRAConfig(("a", "b"), rank=1, target_modules="all-linear"))


def _trainer(steps: int = 2) -> mopref.ParetoTrainer:
    config = mopref.TrainerConfig(steps=steps, preferences_per_step=2, cpu=True, progress=False)
    return mopref.ParetoTrainer(mopref.ParetoSetModel(2, 30, hidden=(4,)), ZDT1(), Linear(), config=config)


def _write_checkpoint(folder: Path) -> None:
    trainer = _trainer()
    trainer.train()
    trainer.save_checkpoint(folder / "checkpoint")


def _resume(folder: Path) -> mopref.ParetoTrainer:
    trainer = _trainer()
    trainer.train(resume_from=folder / "checkpoint")
    return trainer


def _lines(folder: Path) -> None:
    text = "".join(json.dumps(record) + "\n" for record in tiny.records()[:2] * 2)
    (folder / "records.jsonl").write_text(text)


def _table(folder: Path) -> None:
    import csv

    with (folder / "records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(tiny.records()[0]))
        writer.writeheader()
        writer.writerows(tiny.records()[:2])


def _recipe(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_tree(), sort_keys=False))


def _front_numbers(made: mopref.Front) -> dict[str, Any]:
    return {"preferences": made.preferences, "values": made.values, "maximize": made.maximize}


def _write_conditioning(folder: Path) -> None:
    mopref.ParetoSetModel(2, 3, hidden=(4,)).save_pretrained(folder / "model")


def _write_scales(folder: Path) -> None:
    network = _network()
    config = mopref.SVDLoRAConfig(tiny.NAMES, rank=1, preference_rank=1, gate="shared-mlp", target_modules="all-linear")
    model = mopref.PreferenceModel(network, config)
    nn.init.ones_(model.shared_gate.mixture)
    model.export_lora_set(folder / "loras")
    # The one file that mopref reads of a set.
    (folder / "loras" / SCALES_FILE).rename(folder / SCALES_FILE)
    shutil.rmtree(folder / "loras")


FORMATS = [
    Format("front.json", lambda f: front().save(f / "front.json"), lambda f: mopref.Front.load(f / "front.json")),
    Format(
        "front.csv",
        lambda f: front().save(f / "front.csv"),
        lambda f: mopref.Front.load(f / "front.csv", maximize=False),
    ),
    Format("records.jsonl", _lines, lambda f: data.load_records(f / "records.jsonl", tiny.NAMES)),
    Format(
        "records.json",
        lambda f: (f / "records.json").write_text(json.dumps(tiny.records()[:2])),
        lambda f: data.load_records(f / "records.json", tiny.NAMES),
    ),
    Format("records.csv", _table, lambda f: data.load_records(f / "records.csv", tiny.NAMES)),
    Format("recipe.yaml", _recipe, lambda f: load_recipe(f / "recipe.yaml")),
    Format(
        "adapter folder",
        lambda f: _adapter().save_pretrained(f / "adapter"),
        lambda f: mopref.PreferenceModel.load(_network(), f / "adapter"),
        _state,
    ),
    Format(
        "conditioning folder",
        _write_conditioning,
        lambda f: mopref.ParetoSetModel.load(f / "model"),
        _state,
    ),
    Format("scales.json", _write_scales, lambda f: lora_scales(f, [0.25, 0.75]), dict),
    Format("checkpoint folder", _write_checkpoint, _resume, lambda trainer: _state(trainer.unwrapped_model)),
]
# Reading one takes a trainer.
_WEIGHTS = {"checkpoint folder": 0.3, "records.csv": 1.0}


def _spoilt(form: Format) -> st.SearchStrategy[Any]:
    return st.integers(0, 2**63).map(lambda seed: {"form": form, "files": spoil_folder(form.files(), seed)})


TARGETS = [
    *(
        Target(
            f"files: {form.name}",
            _GROUP,
            read_spoilt,
            lambda form=form: {"form": form, "files": form.files()},
            weight=4 * _WEIGHTS.get(form.name, 1.0),
            strategy=_spoilt(form),
        )
        for form in FORMATS
    ),
    Target(
        "files: λ as text",
        _GROUP,
        named_preferences,
        lambda: {"texts": ["helpful=0.25,harmless=0.75", "helpful=1,harmless=0"], "names": tiny.NAMES},
        weight=4,
    ),
]

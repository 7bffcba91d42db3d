"""``mopref train`` on two processes: the run of one, which goes on after a kill, and ends with one message."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from _processes import launch
from _tiny_runs import recipe_tree
from safetensors.torch import load_file

from mopref import Front

# A command line of which something goes wrong on one process, or works otherwise.
CHANGED = """
import os
import signal
import sys

from mopref.cli import main
from mopref.recipes import RecipeError, log_file, training
from mopref.training import ParetoTrainer, shard_base, trainer

change, process = sys.argv[1], int(os.environ["RANK"])
save, prepare = ParetoTrainer.save_checkpoint, training.prepare


def save_and_die(self, folder):
    save(self, folder)
    if process == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def prepare_badly(*arguments):
    if process == 1:
        raise RecipeError("data.source", "is damaged here.")
    return prepare(*arguments)


def full(path, content):
    raise OSError(28, "No space left on device")


def prepare_other_records(*arguments):
    from dataclasses import replace

    return replace(prepare(*arguments), records=f"those of {process}")


if change == "killed":
    ParetoTrainer.save_checkpoint = save_and_die
elif change == "bad":
    training.prepare = prepare_badly
elif change == "full":
    log_file.write_atomically = full
elif change == "others":
    training.prepare = prepare_other_records
elif change == "sharded":
    trainer.shard_as_asked = lambda model, accelerator: shard_base(model)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    """A folder with a recipe for each number of processes, whose steps have four rows in all."""
    folder = tmp_path_factory.mktemp("several")
    for count in (1, 2):
        tree = recipe_tree(tiny / "model", tiny / "records.jsonl", folder / f"run-{count}")
        tree["training"] |= {"batch_size": 4 // count, "learning_rate": 1e-3}
        # In a run's folder the recipe is another one then.
        tree["monitoring"] = {"evaluation_every": 2, "keep_best": True, "answers": True, "sampled_prompts": 2}
        (folder / f"recipe-{count}.yaml").write_text(yaml.safe_dump(tree))
    (folder / "changed.py").write_text(CHANGED)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    """A run of two processes, and what it printed."""
    return launch("-m", 2, "mopref", "train", folder / "recipe-2.yaml")


def changed(folder: Path, change: str, *arguments, check: bool = False):
    """What two processes of a changed command line printed."""
    return launch(folder / "changed.py", 2, change, *arguments, check=check)


def lines_of(run: Path, name: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def adapter(run: Path) -> torch.Tensor:
    values = load_file(run / "adapter" / "adapter_model.safetensors")
    return torch.cat([values[name].flatten() for name in sorted(values)])


@pytest.mark.slow
def test_two_processes_train_and_evaluate_what_one_does(folder, two):
    launch("-m", 1, "mopref", "train", folder / "recipe-1.yaml")
    one, several = folder / "run-1", folder / "run-2"
    files = [sorted(path.relative_to(run).as_posix() for path in run.rglob("*")) for run in (one, several)]
    assert files[0] == files[1]
    torch.testing.assert_close(adapter(several), adapter(one), atol=1e-6, rtol=0)
    first, second = (Front.load(run / "front.json") for run in (one, several))
    assert abs(first.values - second.values).max() < 1e-6
    assert (first.metadata["processes"], second.metadata["processes"]) == (1, 2)
    for own, other in zip(lines_of(one, "log.jsonl"), lines_of(several, "log.jsonl"), strict=True):
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-6)
    evaluations = [lines_of(run, "evaluations.jsonl") for run in (one, several)]
    assert [line["step"] for line in evaluations[1]] == [0, 2, 4, 6]
    for own, other in zip(*evaluations, strict=True):
        assert own["hypervolume"] == pytest.approx(other["hypervolume"], abs=1e-6)
        assert own["answers"] == other["answers"]


@pytest.mark.slow
def test_one_of_them_writes_and_prints(folder, two):
    assert two.stdout.count("hypervolume") == 1
    for said in ("train: 30 pairs", "Memory: about", "Report: ", f"Written to {folder / 'run-2'}."):
        assert two.stderr.count(said) == 1, said


@pytest.mark.slow
def test_one_is_killed_and_both_go_on_to_the_same_end(folder, two):
    again = ("train", folder / "recipe-2.yaml", "--output", folder / "killed")
    killed = changed(folder, "killed", *again)
    assert killed.returncode != 0
    assert [path.name for path in (folder / "killed").glob("checkpoint-*")] == ["checkpoint-4"]
    launch("-m", 2, "mopref", *again, "--resume")
    assert torch.equal(adapter(folder / "killed"), adapter(folder / "run-2"))
    for name in ("log.jsonl", "evaluations.jsonl"):
        assert lines_of(folder / "killed", name) == lines_of(folder / "run-2", name)
    ends = [Front.load(folder / run / "front.json").values for run in ("killed", "run-2")]
    assert (ends[0] == ends[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("none", ["train", "{recipe}"], "mopref train: output is '{folder}/run-2', which holds a run already"),
        ("none", ["train", "{recipe}", "--training.stepz", "3"], "mopref train: --training.stepz"),
        ("none", ["train", "{recipe}", "--dry-run"], "mopref train: --dry-run: it tries what one process does"),
        ("none", ["evaluate", "{folder}/run-2"], "mopref evaluate: it is the work of one process, and here are 2"),
        ("bad", ["train", "{recipe}", "--output", "{new}"], "mopref train: data.source is damaged here."),
        ("full", ["train", "{recipe}", "--output", "{new}"], "mopref train: LogFile.on_train_begin failed at step 0"),
        ("others", ["train", "{recipe}", "--output", "{new}"], "mopref train: data: the records are others than on"),
    ],
)
def test_an_error_ends_both_with_one_message(change, arguments, message, folder, two, tmp_path):
    places = {"recipe": folder / "recipe-2.yaml", "folder": folder, "new": tmp_path / "new"}
    ended = changed(folder, change, *(argument.format(**places) for argument in arguments))
    assert ended.returncode != 0
    told = [line for line in ended.stderr.splitlines() if line.startswith("mopref ") and ":" in line]
    assert len(told) == 1, ended.stderr
    assert told[0].startswith(message.format(**places))
    assert "ElsewhereError" not in ended.stderr


@pytest.mark.slow
def test_where_the_base_is_shared_out_all_of_them_measure(folder, two, tmp_path):
    """By FSDP, which accelerate's configuration asks for where there are GPUs."""
    changed(folder, "sharded", "train", folder / "recipe-2.yaml", "--output", tmp_path / "run", check=True)
    torch.testing.assert_close(adapter(tmp_path / "run"), adapter(folder / "run-2"), atol=1e-6, rtol=0)
    ours, theirs = (Front.load(run / "front.json") for run in (tmp_path / "run", folder / "run-2"))
    assert abs(ours.values - theirs.values).max() < 1e-6
    names = [sorted(path.name for path in run.iterdir()) for run in (tmp_path / "run", folder / "run-2")]
    assert names[0] == names[1]
    # Goes on, too: the best adapter of the checkpoint is put back by all.
    for name in ("adapter", "checkpoint-6"):
        shutil.rmtree(tmp_path / "run" / name)
    again = ("train", folder / "recipe-2.yaml", "--output", tmp_path / "run", "--resume")
    changed(folder, "sharded", *again, check=True)
    torch.testing.assert_close(adapter(tmp_path / "run"), adapter(folder / "run-2"), atol=1e-6, rtol=0)

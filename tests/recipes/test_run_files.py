"""What a run's folder holds is read as it is; what is missing is nothing, and what is damaged is named."""

import json
import os

import pytest
from _checkpoints import empty_checkpoint
from _run_folders import HOSTILE, front_of, write_run

from mopref.recipes import RunFolderError
from mopref.recipes.run_files import read_run_files


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run")


def test_everything_is_read(folder):
    files = read_run_files(folder)
    assert files.recipe.objectives == ("helpful", "harmless")
    assert (files.front.values == front_of(2).values).all()
    assert [entry["step"] for entry in files.log] == [1, 2, 3]
    assert [entry["hypervolume"] for entry in files.evaluations] == [None, 0.5, 0.6]
    assert len(files.answers) == len(HOSTILE) * len(front_of(2))
    assert files.answers[0].preference == {"helpful": 0.0, "harmless": 1.0}
    assert (files.answers[0].prompt, files.answers[0].answer) == (HOSTILE[0], HOSTILE[-1])
    assert files.data.leaks == 2
    assert files.versions["python"] == "3.11"
    assert files.adapter["base_model"] == "OWNER/model"
    assert files.notes == ()
    assert (files.steps, files.adapter_step, files.checkpoint) == (None, None, None)


@pytest.mark.parametrize("steps", [{}, {"steps": 4}, {"adapter_step": 2}, {"steps": 4, "adapter_step": 2}])
def test_steps_are_numbers_and_no_versions(folder, steps):
    versions = json.loads((folder / "versions.json").read_text())
    (folder / "versions.json").write_text(json.dumps({**versions, **steps}))
    files = read_run_files(folder)
    assert (files.steps, files.adapter_step) == (steps.get("steps"), steps.get("adapter_step"))
    assert files.versions == versions


def test_the_newest_checkpoint_is_found(folder):
    for step in (9, 100):
        empty_checkpoint(folder, step)
    assert read_run_files(folder).checkpoint == folder / "checkpoint-100"


def test_intervals_may_be_missing(folder):
    point = {"preference": {"helpful": 1, "harmless": 0}, "intervals": {"kl": None, "loss/helpful": [None, 2]}}
    (folder / "evaluations.jsonl").write_text(json.dumps({"step": 1, "points": [point, {**point, "intervals": None}]}))
    (entry,) = read_run_files(folder).evaluations
    assert entry["points"][0] == point


def test_everything_but_the_recipe_may_be_missing(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    files = read_run_files(folder)
    assert (files.front, files.data, files.versions, files.adapter) == (None, None, None, None)
    assert (files.answers, files.log, files.evaluations, files.notes) == ((), (), (), ())
    (folder / "recipe.yaml").unlink()
    with pytest.raises(RunFolderError, match=r"run holds no run: there is no recipe\.yaml in it"):
        read_run_files(folder)


@pytest.mark.parametrize("name", ["log.jsonl", "evaluations.jsonl"])
def test_a_last_line_that_was_cut_off_is_left_out_with_a_note(folder, name):
    path = folder / name
    whole = path.read_bytes()
    lines = len(whole.splitlines())
    # Cut within the last line, at a brace, a number or a letter.
    for cut in (2, 5, 9):
        path.write_bytes(whole[:-cut])
        files = read_run_files(folder)
        entries = files.log if name == "log.jsonl" else files.evaluations
        assert len(entries) == lines - 1
        assert files.notes == (f"{name}, line {lines} was cut off when the run was stopped, and is left out.",)
    # A whole line without its end is an entry.
    path.write_bytes(whole[:-1])
    assert read_run_files(folder).notes == ()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("log.jsonl", '{"step": 1}\n{"step": \n{"step": 3}\n', "line 2 is no JSON"),
        ("log.jsonl", '{"step": 1}\n{"step": 2\n', "line 2 is no JSON"),
        ("log.jsonl", "[1]\n", "line 1 is no mapping"),
        ("log.jsonl", '{"step": "one"}\n', "line 1 has 'step' of 'one', which is no number"),
        ("evaluations.jsonl", '{"step": 1}\n', "line 1 has no list of points"),
        ("evaluations.jsonl", '{"points": []}\n', "line 1 has no step"),
        ("evaluations.jsonl", '{"step": 1, "hypervolume": "x", "points": []}\n', "has the hypervolume 'x'"),
        (
            "evaluations.jsonl",
            '{"step": 1, "points": [{"preference": {"helpful": 1}}]}\n',
            "has a point 0 whose preference is no weight for each of helpful, harmless",
        ),
        (
            "evaluations.jsonl",
            '{"step": 1, "points": [{"preference": {"helpful": 1, "harmless": 0}, "kl": "x"}]}\n',
            "has a point 0 that has 'kl' of 'x'",
        ),
        ("answers.json", "[{]", "line 1 is no JSON"),
        ("answers.json", "{}", "it is no list of answers"),
        ("answers.json", '[{"preference": {"helpful": 1, "harmless": 0}, "prompt": 1}]', "entry 0 is no answer"),
        ("answers.json", '[{"prompt": "a", "answer": "b", "tokens": 1}]', "entry 0 is no answer"),
        ("data.json", "[]", "is a section"),
        (
            "evaluations.jsonl",
            '{"step": 1, "points": [{"preference": {"helpful": 0.9, "harmless": 0.9}}]}\n',
            "has a point 0 whose preference is no weight for each of helpful, harmless, at least 0 and 1 in sum",
        ),
        (
            "evaluations.jsonl",
            '{"step": 1, "points": [{"preference": {"helpful": 1, "harmless": 0}, "intervals": {"kl": [1]}}]}\n',
            "has a point 0 that has the interval [1] of 'kl'",
        ),
        (
            "evaluations.jsonl",
            '{"step": 1, "points": [{"preference": {"helpful": 1, "harmless": 0}, "intervals": [1, 2]}]}\n',
            "has a point 0 that has intervals of [1, 2], which are no mapping",
        ),
        ("versions.json", "[]", "it is no mapping of versions"),
        ("versions.json", '{"steps": "many"}', "steps is 'many', which is no number of steps"),
        ("versions.json", '{"adapter_step": true}', "adapter_step is True, which is no number of steps"),
        ("versions.json", '{"steps": -1}', "steps is -1, which is no number of steps"),
        ("versions.json", '{"steps": 4, "adapter_step": 5}', "the adapter is of step 5, but only 4 were trained"),
        ("front.json", "{}", "is not a front that Front.save wrote"),
        ("adapter/adapter_config.json", "{}", "holds an adapter of type None"),
        ("adapter/adapter_config.json", "{", "the adapter is damaged, save it again."),
        ("recipe.yaml", "objectives: [a, b]\nsteps: 3\n", "recipe.yaml, steps: there is no such setting"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(folder, name, content, problem):
    (folder / name).write_text(content)
    with pytest.raises(RunFolderError) as refused:
        read_run_files(folder)
    message = str(refused.value)
    assert problem in message
    assert str(folder / name.partition("/")[0]) in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["log.jsonl", "evaluations.jsonl", "answers.json", "data.json", "versions.json"])
def test_a_file_that_would_wait_for_ever_or_nests_without_end_is_refused(name, folder):
    (folder / name).write_text("[" * 100_000)
    with pytest.raises(RunFolderError, match=rf"{name} is damaged: .*is nested too deeply"):
        read_run_files(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(RunFolderError, match=rf"{name} is a pipe or a device"):
        read_run_files(folder)


@pytest.mark.parametrize("number", ["1e308", "-1e308", "9" * 400])
def test_numbers_that_no_picture_can_hold_are_refused(number, folder):
    (folder / "log.jsonl").write_text(f'{{"step": 1, "loss/helpful": {number}}}\n')
    with pytest.raises(RunFolderError, match=r"log\.jsonl is damaged: line 1 has 'loss/helpful' of .*no run comes to"):
        read_run_files(folder)


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "answers.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match=r"answers\.json is damaged: it is no UTF-8 text"):
        read_run_files(folder)


def test_the_front_of_another_run_is_refused(folder):
    front_of(3).save(folder / "front.json")
    with pytest.raises(RunFolderError, match="its objectives are helpful, harmless, brief, and not helpful, harmless"):
        read_run_files(folder)


def test_no_device_and_no_part_need_be_there(folder):
    """A report of a run on a GPU, by a part of another package, is read where neither is."""
    text = (folder / "recipe.yaml").read_text()
    text = text.replace("device: auto", "device: cuda:7").replace("name: dpo", "name: mine")
    (folder / "recipe.yaml").write_text(text)
    recipe = read_run_files(folder).recipe
    assert (recipe.model.device, recipe.objective.name) == ("cuda:7", "mine")


def test_numbers_that_are_not_finite_are_read(folder):
    (folder / "log.jsonl").write_text('{"step": 1, "loss/helpful": NaN, "loss/harmless": null}\n')
    (entry,) = read_run_files(folder).log
    assert entry["loss/helpful"] != entry["loss/helpful"]

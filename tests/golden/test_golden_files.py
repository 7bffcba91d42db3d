"""What earlier versions saved loads in this one with the same values, and what a later one saved is refused by name.

The folders beside this file hold, for each version, what it wrote (see make.py), the values in it among them. The
variable GOLDEN_FILES names another place for them, such as what this version wrote with other versions of PyTorch.
"""

import json
import os
import shutil
from pathlib import Path

import golden_parts as parts
import numpy as np
import pytest

from mopref import Front, PreferenceModel
from mopref.conditioning.adapter_description import FORMAT_VERSION

HERE = Path(os.environ.get("GOLDEN_FILES", Path(__file__).parent))
VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "expected.json").is_file())
# Where the number of a format's version stands, and under which name.
NUMBERS = {
    "adapter/adapter_config.json": "format_version",
    "front.json": "version",
    **{f"{name}/conditioning.json": "format_version" for name in parts.CONDITIONINGS},
    **{f"checkpoint_{name}/manifest.json": "format_version" for name in parts.TRAINERS},
}
# Versions whose checkpoints say nothing of what wrote them.
WITHOUT_MANIFEST = ("0.2",)


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path) -> Path:
    """A copy of a version's files."""
    return shutil.copytree(HERE / request.param, tmp_path / request.param)


def expected(golden: Path) -> dict:
    return json.loads((golden / "expected.json").read_text())


def load(golden: Path, name: str):
    """What one of the files or folders holds."""
    if name.startswith("front"):
        return Front.load(golden / "front.json")
    if name.startswith("checkpoint"):
        trainer = parts.TRAINERS[name.removeprefix("checkpoint_")](None)
        trainer.train(resume_from=golden / name)
        return trainer
    if name == "adapter":
        return PreferenceModel.load(parts.language_model(), golden / name)
    return parts.CONDITIONINGS[name][1](golden / name)


def assert_close(actual, wanted, place: str = "") -> None:
    """Nested lists and dicts of the same numbers, up to the rounding of another PyTorch."""
    assert type(actual) is type(wanted), place
    if isinstance(wanted, dict):
        assert actual.keys() == wanted.keys(), place
        for key in wanted:
            assert_close(actual[key], wanted[key], f"{place}.{key}")
    elif isinstance(wanted, list):
        assert len(actual) == len(wanted), place
        for index, pair in enumerate(zip(actual, wanted, strict=True)):
            assert_close(*pair, f"{place}[{index}]")
    else:
        assert actual == pytest.approx(wanted, abs=1e-5, rel=1e-5), place


@pytest.mark.parametrize("name", ["adapter", *parts.CONDITIONINGS])
def test_models_give_what_they_gave(golden, name):
    assert_close(parts.outputs(load(golden, name)), expected(golden)[name])


@pytest.mark.parametrize("name", parts.TRAINERS)
def test_checkpoints_hold_what_they_held_and_go_on_to_the_same_end(golden, name):
    if golden.name in WITHOUT_MANIFEST:
        pytest.skip("refused, see below")
    wanted = expected(golden)[f"checkpoint_{name}"]
    saved = parts.TRAINERS[name](None)
    # Without the loop, so that what was loaded can be looked at.
    saved._run_loop = lambda: None
    saved.train(resume_from=golden / f"checkpoint_{name}")
    assert saved.step == parts.SAVED
    assert_close(parts.progress(saved), wanted["saved"])
    end = load(golden, f"checkpoint_{name}")
    assert end.step == parts.STEPS
    assert_close(parts.progress(end), wanted["end"])


@pytest.mark.parametrize("version", [version for version in VERSIONS if version in WITHOUT_MANIFEST])
@pytest.mark.parametrize("name", parts.TRAINERS)
def test_checkpoints_without_a_manifest_are_refused_by_their_version(version, name):
    with pytest.raises(FileNotFoundError, match=r"it has no manifest\.json, as those of versions before 0\.3"):
        load(HERE / version, f"checkpoint_{name}")


def test_fronts_hold_what_they_held(golden):
    wanted, front = parts.front(), load(golden, "front")
    table = Front.load(golden / "front.csv", maximize=wanted.maximize, convention=wanted.convention)
    for read in (front, table):
        np.testing.assert_array_equal(read.values, wanted.values)
        np.testing.assert_array_equal(read.preferences, wanted.preferences)
        assert read.names == wanted.names
        assert read.maximize == wanted.maximize
        assert list(read.extra) == list(wanted.extra)
        for name, column in wanted.extra.items():
            np.testing.assert_array_equal(read.extra[name], column)
    assert front.metadata == wanted.metadata
    assert front.convention == wanted.convention


@pytest.mark.parametrize("place", NUMBERS)
def test_a_newer_format_is_refused_by_its_number(golden, place):
    """The newest format that this version knows is its own: one more is refused, and so is one of years to come."""
    if not has_number(golden.name, place):
        pytest.skip("written without a number")
    path, key = golden / place, NUMBERS[place]
    document = json.loads(path.read_text())
    for number in (newest(place) + 1, 1000):
        path.write_text(json.dumps({**document, key: number}))
        with pytest.raises(ValueError, match=rf"version\D*{number}\b.*reads"):
            load(golden, place.split("/")[0].removesuffix(".json"))


def newest(place: str) -> int:
    """The largest number that this version writes: the last of the stored versions has it, but for a gate's."""
    if place == "adapter/adapter_config.json":
        return FORMAT_VERSION
    return max(
        json.loads((HERE / version / place).read_text())[NUMBERS[place]]
        for version in VERSIONS
        if has_number(version, place)
    )


def has_number(version: str, place: str) -> bool:
    """Whether that version wrote a number into that file."""
    return not (version in WITHOUT_MANIFEST and place.startswith("checkpoint"))


def test_every_version_has_every_file():
    assert VERSIONS
    for version in VERSIONS:
        for place in NUMBERS:
            assert (HERE / version / place).is_file() is has_number(version, place), place


def test_golden_files_are_small():
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 300_000

"""What a page shows of a folder."""

import shutil

import pytest

pytest.importorskip("pydantic")

from mopref.front import Front
from mopref.serving.page.matter import page_matter
from mopref.serving.page.pairs import RunRecords, run_records


def test_of_a_run_its_front_and_its_records(trained):
    found = page_matter(trained.folder, trained.model, trained.tokenizer, run_records(trained.folder))
    assert found.front.names == trained.model.objectives
    assert len(found.pairs.shown) == len(found.pairs.margins) > 8


def test_of_an_adapter_nothing_and_what_to_do(trained):
    found = page_matter(trained.folder / "adapter", trained.model, trained.tokenizer, RunRecords([], 0.1))
    assert found.front is None
    assert found.pairs is None
    assert "mopref evaluate" in found.no_front
    assert found.no_pairs


def test_a_front_of_other_objectives_is_not_shown(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ("a", "b")).save(tmp_path / "run" / "front.json")
    found = page_matter(tmp_path / "run", trained.model, trained.tokenizer, RunRecords([], 0.1))
    assert found.front is None
    assert "other objectives" in found.no_front

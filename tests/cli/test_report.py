import shutil

import pytest

from mopref.cli import main


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of a trained run; the pictures of its report, which take the time, are left out."""
    for name in ("front_pictures", "training_pictures"):
        monkeypatch.setattr(f"mopref.recipes.report_figures.{name}", lambda source: [])
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


def test_report_and_card_are_written_and_told(folder, capsys):
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"Report: {folder / 'report.html'}\n" in printed.err
    assert f"Model card: {folder / 'adapter' / 'README.md'}\n" in printed.err
    assert "<h1>One model for every balance of helpful, harmless</h1>" in (folder / "report.html").read_text()
    # And again.
    assert main(["report", str(folder)]) == 0


def test_another_file(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--output", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").is_file()
    assert not (folder / "report.html").exists()


def test_an_edited_card_stays_and_that_is_told(folder, capsys):
    (folder / "adapter" / "README.md").write_text("mine")
    assert main(["report", str(folder)]) == 0
    assert "README.md was edited, or is not of mopref, and stays as it is" in capsys.readouterr().err
    assert (folder / "adapter" / "README.md").read_text() == "mine"


def test_an_unfinished_run_has_a_report_and_no_card(folder, capsys):
    shutil.rmtree(folder / "adapter")
    assert main(["report", str(folder)]) == 0
    assert "card" not in capsys.readouterr().err
    assert "The training is not finished" in (folder / "report.html").read_text()


def test_what_is_no_run_or_damaged_is_a_sentence(folder, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mopref report: ")
    assert "holds no run" in line
    (folder / "log.jsonl").write_text("x\n{}\n")
    assert main(["report", str(folder)]) == 2
    assert "log.jsonl is damaged: line 1 is no JSON" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "required: RUN" in capsys.readouterr().err


def test_what_cannot_be_written_is_told_without_the_systems_number(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["report", str(folder), "--output", str(tmp_path / "file" / "inner.html")]) == 2
    told = capsys.readouterr().err
    assert "could not be written" in told
    assert "[Errno" not in told

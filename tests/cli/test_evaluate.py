from mopref import Front
from mopref.cli import main


def test_a_run_is_measured_at_other_preferences(trained, tmp_path, capsys):
    output = tmp_path / "more"
    arguments = ["--evaluation.points", "5", "--evaluation.prompts", "[]", "--output", str(output)]
    assert main(["evaluate", str(trained.folder), *arguments]) == 0
    front = Front.load(output / "front.json")
    assert len(front) == 5
    assert front.summary() in capsys.readouterr().out
    assert not (output / "answers.json").exists()
    # Its corners are the run's own.
    assert (front.values[0] == Front.load(trained.folder / "front.json").values[0]).all()


def test_a_runs_own_front_is_not_written_over(trained, capsys):
    assert main(["evaluate", str(trained.folder)]) == 2
    assert "holds a front already: say with --output where this one goes." in capsys.readouterr().err


def test_only_the_evaluation_can_be_another(trained, tmp_path, capsys):
    assert main(["evaluate", str(trained.folder), "--seed", "3", "--output", str(tmp_path / "x")]) == 2
    assert "--seed: a run's own settings stay as they are" in capsys.readouterr().err
    assert main(["evaluate", str(trained.folder), "--evaluation.pionts", "3", "--output", str(tmp_path / "x")]) == 2
    assert "did you mean --evaluation.points?" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_no_run_is_told(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "is no finished run: there is no recipe.yaml in it; give the folder of a run." in capsys.readouterr().err


def test_preferences_stand_in_place_of_the_runs_points(trained, tmp_path):
    arguments = ["--evaluation.preferences", "[{helpful: 0.7, harmless: 0.3}]", "--evaluation.sampled_prompts", "0"]
    assert main(["evaluate", str(trained.folder), *arguments, "--output", str(tmp_path / "x")]) == 0
    front = Front.load(tmp_path / "x" / "front.json")
    assert front.preferences.tolist() == [[0.7, 0.3]]
    assert front.metadata["step"] == 6

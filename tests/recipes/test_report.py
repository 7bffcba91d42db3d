"""A report holds every number of its run, nothing that runs or comes from elsewhere, and says what is missing."""

import json
import math
import re

import pytest
from _checkpoints import empty_checkpoint
from _run_folders import HOSTILE, NAMES, Page, data_tree, front_of, write_run

from mopref import Front, simplex_lattice
from mopref.recipes import AdapterSettings, MonitoringSettings, PartSettings, RunFolderError, report


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the pictures out, which take the time."""
    for name in ("front_pictures", "training_pictures"):
        monkeypatch.setattr(f"mopref.recipes.report_figures.{name}", lambda source: [])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folders of runs of m objectives by m, with their reports in them, pictures and all."""
    folders = {count: write_run(tmp_path_factory.mktemp("drawn") / "run", count) for count in (2, 3, 5)}
    for folder in folders.values():
        report(folder)
    return folders


def page_of(folder):
    return Page(report(folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_number_of_the_front_is_in_the_table(count, tmp_path, no_pictures):
    page = page_of(write_run(tmp_path / "run", count))
    front = Front.load(tmp_path / "run" / "front.json")
    expected = [*front.preferences.flatten(), *front.values.flatten(), *front.metadata["base_losses"]]
    for column in front.extra.values():
        expected += [value for value in column.tolist() if not isinstance(value, str) and not math.isnan(value)]
    numbers = sorted(float(value) for value in page.values() if value not in ("", "<b>"))
    assert numbers == sorted(map(float, expected))
    assert page.values().count("<b>") == len(front)
    assert f"{front.hypervolume():.4g} [0.1, 3.5] (reference point 2, " in page.text("strong")
    assert page.text("span").count("dominated") == 1
    assert "90 % interval" in page.text()
    heads = [" ".join(text.split()) for tag, text in page.texts if tag == "th"]
    assert {f"λ {NAMES[0]}", f"{NAMES[0]} ↓", f"accuracy {NAMES[0]} ↑", "kl"} <= set(heads)
    assert not page.unbalanced
    assert not page.open


@pytest.mark.parametrize(("count", "pictures"), [(2, 7), (3, 8), (5, 7)])
def test_fronts_and_curves_are_drawn(count, pictures, drawn):
    page = Page((drawn[count] / "report.html").read_text(encoding="utf-8"))
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    # Front, (axes side by side,) weights; log, hypervolume, losses, accuracies, distance and length.
    assert len(drawings) == pictures
    assert all(attributes["aria-label"] for attributes in drawings)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    # Margins that were never measured are no picture.
    assert "Held-out margins" not in page.text("h3")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_nothing_comes_from_elsewhere_and_nothing_runs(count, drawn):
    text = (drawn[count] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value)
    assert "@import" not in page.text("style")
    assert "url(" not in page.text("style")
    policy = [attributes["content"] for _, attributes in page.elements if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_hostile_texts_are_shown_as_they_are(tmp_path, no_pictures):
    page = page_of(write_run(tmp_path / "run"))
    cells = [text for tag, text in page.texts if tag == "td"]
    prompts = [text for tag, text in page.texts if tag == "th"]
    for text in HOSTILE:
        assert cells.count(text) == len(front_of(2)), text
        assert prompts.count(text) == 1, text
    # Whole, in the recipe as well.
    assert "<script>alert(1)</script>" in page.text("pre")
    assert "<i>empty</i> text" in cells
    directions = [attributes.get("dir") for tag, attributes in page.elements if tag == "td" and "dir" in attributes]
    assert set(directions) == {"auto"}


def test_answers_stand_by_prompt_and_preference(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    entries = json.loads((folder / "answers.json").read_text())
    for number, entry in enumerate(entries):
        entry["answer"] = f"answer {number}"
    (folder / "answers.json").write_text(json.dumps(entries[:-1]))
    page = page_of(folder)
    count = len(front_of(2))
    rows = [f"answer {point * len(HOSTILE) + row}" for row in range(len(HOSTILE)) for point in range(count)]
    assert [text for tag, text in page.texts if tag == "td" and text.startswith("answer ")] == rows[:-1]
    assert page.text("span").count("no answer") == 1


def test_data_are_tables(tmp_path, no_pictures):
    page = page_of(write_run(tmp_path / "run"))
    cells = [text for tag, text in page.texts if tag == "td"]
    assert cells.count("31") == cells.count("19") == cells.count("12") == cells.count("9") == 4
    assert cells.count("23") == cells.count("17") == cells.count("6") == 2
    assert "60 rows made 54 records." in page.text("p")
    assert "2" in page.text("strong")
    assert "held-out records have a prompt of the training data" in page.text("p")
    assert "To train on: 41 records on 41 prompts" in page.text("h3")


def test_what_is_missing_is_said(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    for name, words in (
        ("answers.json", "There are no answers to compare"),
        ("data.json", "Nothing was recorded of the data"),
        ("log.jsonl", "There is no log of the training"),
        ("evaluations.jsonl", ""),
        ("versions.json", ""),
        ("front.json", "No front was measured yet (front.json is missing)"),
        ("adapter/adapter_config.json", "The training is not finished"),
    ):
        (folder / name).unlink()
        page = page_of(folder)
        assert words in page.text("p")
        assert not page.unbalanced
    assert "table" not in [tag for tag, _ in page.elements]
    # A link to a part that is not there would lead nowhere.
    ids = {attributes.get("id") for _, attributes in page.elements}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links
    assert all(link[1:] in ids for link in links)


def test_a_log_that_was_cut_off_is_read_up_to_there(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "loss/hel')
    assert "log.jsonl, line 4 was cut off when the run was stopped, and is left out." in page_of(folder).text("p")


def test_the_same_folder_gives_the_same_file(drawn, tmp_path):
    other = report(drawn[2], tmp_path / "new" / "other.html")
    assert other.read_bytes() == (drawn[2] / "report.html").read_bytes()
    assert [entry.name for entry in other.parent.iterdir()] == ["other.html"]


def test_an_older_report_is_replaced(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    path = report(folder)
    assert path == folder / "report.html"
    (folder / "answers.json").unlink()
    assert report(folder) == path
    assert "There are no answers to compare" in path.read_text(encoding="utf-8")


def test_another_file_is_not_replaced(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine")
    with pytest.raises(RunFolderError, match=r"mine\.html is no report of mopref, and would be lost"):
        report(folder, mine)
    assert mine.read_text() == "<p>mine"
    with pytest.raises(RunFolderError, match=r"is a folder: give a file"):
        report(folder, tmp_path)
    with pytest.raises(RunFolderError, match=r"'recipe\.yaml' is no name of a report"):
        report(folder, folder / "recipe.yaml")


def test_no_run_no_report(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no run: there is no recipe\.yaml"):
        report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lambda_is_told_by_its_convention(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    assert "λ_i is the importance of objective i" in page_of(folder).text("p")
    front = front_of(2)
    front.convention = "ray"
    front.save(folder / "front.json")
    assert "a larger λ_i asks for a LARGER loss" in page_of(folder).text("p")


def test_a_trained_run_has_its_report(trained, tmp_path, no_pictures):
    page = Page(report(trained.folder, tmp_path / "report.html").read_text(encoding="utf-8"))
    front = Front.load(trained.folder / "front.json")
    for number in [*front.values.flatten(), *front.extra["accuracy_helpful"]]:
        assert repr(float(number)) in page.values()
    assert re.search(r"mopref generate \S+ --preference helpful=0\.7,harmless=0\.3", page.text("pre"))
    assert "30 pairs to train on, 10 pairs held out" in page.text("dd")


def test_one_objective_is_told_without_a_picture(tmp_path):
    folder = write_run(tmp_path / "run", front=False)
    text = (folder / "recipe.yaml").read_text().replace("- harmless\n", "")
    (folder / "recipe.yaml").write_text(text)
    Front([[1.0]], [[0.5]], NAMES[:1]).save(folder / "front.json")
    (folder / "data.json").write_text(json.dumps(data_tree(NAMES[:2])))
    page = page_of(folder)
    assert "0.5" in page.values()
    assert "No hypervolume: it needs a reference point" in page.text("p")


def test_columns_are_explained_below_the_table(tmp_path, no_pictures):
    page = page_of(write_run(tmp_path / "run"))
    terms = [text for tag, text in page.texts if tag == "dt"]
    assert {"helpful, harmless", "accuracy", "kl"} <= set(terms)
    assert "note" not in terms
    assert "from sampled answers to up to 13 held-out prompts" in page.text("dd")


def test_a_chosen_adapter_is_told_with_its_step(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run", monitoring=MonitoringSettings(evaluation_every=2, keep_best=True))
    versions = {"python": "3.11", "steps": 4, "adapter_step": 2}
    (folder / "versions.json").write_text(json.dumps(versions))
    page = page_of(folder)
    assert "of step 2 of the 4 that were trained" in page.text("dd")
    assert "The adapter was chosen among those of several steps" in page.text("p")
    # They are no versions of anything.
    assert not {"steps", "adapter_step"} & {text for tag, text in page.texts if tag == "dt"}
    assert "was chosen" not in page_of(write_run(tmp_path / "plain")).text("p")


def test_labels_of_single_answers_are_never_tied(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run", objective=PartSettings("kto"))
    assert "tied or not labelled" in page_of(folder).text("th")
    tree = json.loads((folder / "data.json").read_text())
    for side in tree["sides"]:
        side["labels"] = [{**labels, "counts": {"good": 19, "bad": 12}} for labels in side["labels"]]
    (folder / "data.json").write_text(json.dumps(tree))
    heads = [text for tag, text in page_of(folder).texts if tag == "th"]
    assert heads.count("not labelled") == 2
    assert "tied or not labelled" not in heads


def test_an_unfinished_run_says_how_it_is_finished(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run", front=False)
    assert "How to use it" in page_of(folder).text("h2")
    (folder / "adapter" / "adapter_config.json").unlink()
    page = page_of(folder)
    assert "There is no checkpoint to go on from" in page.text("p")
    assert f"mopref train {folder}/recipe.yaml --output NEW_FOLDER --training.checkpoint_every" in page.text("pre")
    empty_checkpoint(folder, 3)
    page = page_of(folder)
    assert "It can go on from checkpoint-3" in page.text("p")
    assert "How to finish it" in page.text("h2")
    commands = [text for tag, text in page.texts if tag == "pre"]
    assert commands[0] == f"mopref train {folder}/recipe.yaml --resume"
    assert not any(word in page.text("pre") for word in ("mopref generate", "mopref export", "mopref evaluate"))
    # One that was moved writes where it is now.
    moved = folder.rename(tmp_path / "my run")
    commands = [text for tag, text in page_of(moved).texts if tag == "pre"]
    assert commands[0] == f"mopref train '{moved}/recipe.yaml' --resume --output '{moved}'"


@pytest.mark.parametrize(("gate", "is_told"), [("linear", True), ("shared-mlp", True), ("layer-mlp", False)])
def test_a_set_of_loras_is_offered_where_there_can_be_one(gate, is_told, tmp_path, no_pictures):
    page = page_of(write_run(tmp_path / "run", adapter=AdapterSettings(gate=gate)))
    assert ("--format lora-set" in page.text("pre")) == is_told
    assert "--format lora " in page.text("pre")


def test_an_outdated_front_is_told(tmp_path, no_pictures):
    folder = write_run(tmp_path / "run")
    front = Front.load(folder / "front.json")
    front.metadata["step"] = 2
    front.save(folder / "front.json")
    assert "is outdated" not in page_of(folder).text("p")
    (folder / "versions.json").write_text(json.dumps({"steps": 4, "adapter_step": 4}))
    assert "The front was measured at step 2, and the adapter is of step 4: it is outdated." in page_of(folder).text(
        "p"
    )


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_front_can_be_measured_as_the_report_says(count, tmp_path, no_pictures):
    text = report(write_run(tmp_path / "run", count)).read_text(encoding="utf-8")
    points = int(re.search(r"--evaluation\.points (\d+)", text)[1])
    assert len(simplex_lattice(count, points)) == points

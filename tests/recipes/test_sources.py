import pytest
from _tiny_runs import pair_records

from mopref.llm.data.loaders import LOADERS
from mopref.recipes import RecipeError
from mopref.recipes.sources import load_records


@pytest.fixture
def mapping_loader():
    """A loader that reads a mapping of sources, registered while the test runs."""

    @LOADERS.register("by-objective")
    def load_by_objective(source: "str | __import__('collections').abc.Mapping[str, str]", scale: int = 1) -> list:
        return [{"source": source, "scale": scale}]

    yield
    del LOADERS._parts["by-objective"]


def test_records_are_what_the_file_holds(load):
    records = load_records(load())
    assert records == pair_records()


def test_options_and_test_options_go_to_the_loader(load):
    recipe = load(data={"options": {"limit": 7}, "test_options": {"limit": 3}, "test_fraction": None})
    assert len(load_records(recipe)) == 7
    assert len(load_records(recipe, test=True)) == 3


def test_a_test_source_is_read_by_the_same_loader(load, tmp_path, tiny):
    lines = (tiny / "records.jsonl").read_text().splitlines()
    (tmp_path / "test.jsonl").write_text("\n".join(lines[:4]))
    recipe = load(data={"test_source": str(tmp_path / "test.jsonl"), "test_fraction": None})
    assert load_records(recipe, test=True) == pair_records()[:4]


@pytest.mark.usefixtures("mapping_loader")
def test_a_mapping_goes_to_a_loader_that_takes_one(load):
    source = {"helpful": "a", "harmless": "b"}
    recipe = load(data={"loader": "by-objective", "source": source, "options": {"scale": 2}})
    assert load_records(recipe) == [{"source": source, "scale": 2}]


@pytest.mark.usefixtures("mapping_loader")
def test_a_pull_has_neither_labels_nor_a_data_set(load):
    """Only its rewards' objectives are read, where an objective on rewards takes the prompts of pairs."""
    sections = {
        "objectives": ["helpful", "harmless", "close"],
        "objective": {"name": "rlhf", "options": {"pull": "close"}},
        "rewards": {"helpful": "sentiment", "harmless": "sentiment"},
        "scalarizer": {"name": "linear", "options": {}},
        "evaluation": {"points": 6, "reference_point": None},
    }
    assert load_records(load(**sections)) == pair_records()
    source = {"helpful": "a", "harmless": "b"}
    recipe = load(data={"loader": "by-objective", "source": source}, **sections)
    assert load_records(recipe) == [{"source": source, "scale": 1}]
    with pytest.raises(
        RecipeError, match=r"data\.source\.close: there is no such objective; there are helpful, harmless"
    ):
        load(data={"loader": "by-objective", "source": {**source, "close": "c"}}, **sections)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"source": None},
            r"data\.source: this setting is missing; the loader 'records' needs a file, folder or hub id",
        ),
        ({"source": {"helpful": "x"}}, r"data\.source is .+: the loader 'records' takes a file or hub id only"),
        ({"loader": "harm-pairs"}, r"data\.source is .+: the loader 'harm-pairs' takes none, so leave it out"),
        (
            {"loader": "responses"},
            r"data\.loader is 'responses', which reads responses: the objective 'dpo' learns from pairs",
        ),
        ({"loader": "recodrs"}, r"data\.loader is 'recodrs': there is no such loader; did you mean records\?"),
        (
            {"options": {"limitt": 3}},
            r"data\.options\.limitt: there is no such option; did you mean data\.options\.limit\?",
        ),
        ({"options": {"path": "x"}}, r"data\.options\.path: the setting data\.source of the recipe says it"),
        (
            {"options": {"objectives": ["a"]}},
            r"data\.options\.objectives: the setting objectives of the recipe says it",
        ),
        (
            {"test_options": {"splitt": "x"}, "test_fraction": None},
            r"data\.test_options\.splitt: there is no such option",
        ),
    ],
)
def test_what_the_loader_does_not_take_is_refused_before_it_is_called(load, data, message):
    with pytest.raises(RecipeError, match=message):
        load(data=data)


def test_a_file_that_is_not_there_is_named_with_its_setting(load):
    with pytest.raises(RecipeError, match=r"^data\.source: there is no file or folder 'none\.jsonl'"):
        load_records(load(data={"source": "none.jsonl"}))
    with pytest.raises(RecipeError, match=r"^data\.test_source: there is no file or folder 'no\.jsonl'"):
        load_records(load(data={"test_source": "no.jsonl", "test_fraction": None}), test=True)

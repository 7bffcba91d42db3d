import pytest

from mopref.recipes.mistakes import RecipeError, joined, nearest, settings_at


def test_a_mistake_reads_as_a_sentence_with_its_place():
    problem = "is 0: it must be at least 1."
    assert str(RecipeError("training.steps", problem)) == f"training.steps {problem}"
    assert str(RecipeError("training.steps", problem, "r.yaml, ")) == f"r.yaml, training.steps {problem}"
    assert str(RecipeError("training.steps", problem, "--")) == f"--training.steps {problem}"
    assert str(RecipeError("", ": it is no YAML.", "r.yaml, ")) == "r.yaml: it is no YAML."
    assert str(RecipeError("", "a recipe is run by one process.")) == "a recipe is run by one process."


def test_the_nearest_word_is_offered_or_all_of_them():
    assert nearest("beto", ["beta", "loss"], "objective.options.") == "did you mean objective.options.beta?"
    assert nearest("zzz", ["beta", "loss"]) == "there are beta, loss."
    assert joined("", "seed") == "seed"


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_what_a_part_refuses_gets_the_key_of_the_setting(kind):
    with (
        pytest.raises(RecipeError, match=r"^training\.steps is 0: too few\.$") as caught,
        settings_at("training", ["steps"]),
    ):
        raise kind("steps is 0: too few.")
    assert caught.value.key == "training.steps"


def test_a_message_that_begins_otherwise_gets_the_sections_key():
    with (
        pytest.raises(RecipeError, match=r"^objective\.options: unknown loss 'x'\.$"),
        settings_at("objective.options", ["loss"]),
    ):
        raise ValueError("unknown loss 'x'.")


def test_a_mistake_within_keeps_its_own_key():
    with pytest.raises(RecipeError, match=r"^inner is 3\.$"), settings_at("outer", ["inner"]):
        raise RecipeError("inner", "is 3.")

"""Names of a set's LoRAs, and objectives after which they cannot be called."""

import pytest

from mopref.conditioning.lora_names import check_set_names, set_names


@pytest.mark.parametrize(
    ("has_shared", "directions", "names"),
    [
        (True, 0, ("shared", "b", "a")),
        (False, 2, ("b", "a", "direction-1", "direction-2")),
        (True, 1, ("shared", "b", "a", "direction-1")),
    ],
)
def test_the_order_is_that_of_the_objectives(has_shared, directions, names):
    assert set_names(("b", "a"), has_shared, directions) == names


@pytest.mark.parametrize("name", ["direction-1", "direction-17", "Direction-2", "DIRECTION-03"])
def test_the_names_of_directions_are_taken_where_there_are_some(name):
    check_set_names(("helpful", name))
    with pytest.raises(ValueError, match=f"an objective is called '{name}', as the LoRAs of directions are"):
        check_set_names(("helpful", name), has_directions=True)


@pytest.mark.parametrize("name", ["direction", "direction-", "direction-a", "a direction-1", "direction-1b"])
def test_other_names_of_that_kind_are_free(name):
    check_set_names(("helpful", name), has_directions=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared", "'shared', which is the name of the LoRA that all preferences share"),
        ("scales.json", "'scales.json', which is the name of the file that says how LoRAs are scaled"),
        ("Scales.json", "the LoRAs scales.json, Scales.json would be called alike"),
        ("HELPFUL", "the LoRAs helpful, HELPFUL would be called alike"),
        ("a/b", "cannot name a folder of its own"),
        ("x" * 201, "more than 200 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_name_of_its_own_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_set_names(("helpful", name))

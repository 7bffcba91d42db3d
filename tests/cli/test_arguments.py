import pytest

from mopref.cli.arguments import (
    command_parser,
    first_argument,
    named_preferences,
    parsed,
    take_switch,
    take_value,
)
from mopref.cli.mistakes import UsageError


@pytest.fixture
def parser():
    made = command_parser("show", "RUN", "Shows.\n\n  mopref show RUN")
    made.add_argument("folder", metavar="RUN")
    made.add_argument("--learning-rate", type=float)
    made.add_argument("--count", type=int, default=1)
    return made


def test_what_a_parser_does_not_take_is_told_in_a_line(parser):
    assert parsed(parser, ["x", "--count", "3"]).count == 3
    for arguments, reason in (
        ([], "required: RUN"),
        (["x", "--cuont", "3"], "--cuont"),
        (["x", "--count", "y"], "^--count is 'y': it must be a whole number"),
        (["x", "--learning-rate", "inf"], "^--learning-rate is 'inf': it must be a finite number"),
    ):
        with pytest.raises(UsageError, match=rf"{reason}.*: see `mopref show --help` for what it takes\.$") as caught:
            parsed(parser, arguments)
        assert "\n" not in str(caught.value)


def test_the_first_argument_is_no_flag(parser, capsys):
    assert first_argument(["a", "b"], lambda: parser, "the folder") == "a"
    for arguments in ([], ["--count", "3"]):
        with pytest.raises(UsageError, match=r"^the folder comes first: see `mopref show --help`"):
            first_argument(arguments, lambda: parser, "the folder")
    with pytest.raises(SystemExit):
        first_argument(["a", "-h"], lambda: parser, "the folder")
    assert "\n  mopref show RUN" in capsys.readouterr().out


def test_switches_and_values_are_taken_out():
    assert take_switch(["a", "--x", "b"], "--x") == (True, ["a", "b"])
    assert take_switch(["a"], "--x") == (False, ["a"])
    assert take_value(["a", "--x", "1", "b"], "--x") == ("1", ["a", "b"])
    assert take_value(["--x=1=2", "b"], "--x") == ("1=2", ["b"])
    assert take_value(["b"], "--x") == (None, ["b"])
    for arguments in (["b", "--x"], ["b", "--x", "", "c"], ["--x="]):
        with pytest.raises(UsageError, match="--x has no value: write it behind"):
            take_value(arguments, "--x")


def test_preferences_are_read_by_name():
    made = named_preferences(["b=.25, a=.75", "a=1,b=0"], ("a", "b"))
    assert made.tolist() == [[0.75, 0.25], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a",
            r"--preference is 'a': 'a' is no name and number.*; write a weight for each objective, as in a=0\.5,b=0\.5",
        ),
        ("a=x,b=1", r"--preference is 'a=x,b=1': the weight of 'a' is 'x', which is no number.*; write a weight"),
        ("a=1", "has no weight for b"),
        ("a=1,c=0", "has a weight for c|no weight for b"),
        ("a=1,b=1", "sum"),
    ],
)
def test_what_is_no_preference_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        named_preferences([text], ("a", "b"))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_example_of_a_preference_is_one(count):
    names = [f"n{place}" for place in range(count)]
    with pytest.raises(UsageError) as caught:
        named_preferences(["x"], names)
    example = str(caught.value).rpartition(" as in ")[2].removesuffix(".")
    assert named_preferences([example], names).shape == (1, count)


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(UsageError, match="'a' is there twice"):
        named_preferences(["a=.5,a=.5,b=0"], ["a", "b"])

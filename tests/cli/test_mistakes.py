import pytest
import torch

from mopref.cli.mistakes import UsageError, is_mistake
from mopref.llm.data import validate_records
from mopref.recipes import RecipeError, RunFolderError


def error_of(call) -> BaseException:
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("error", [RecipeError("seed", "is 3."), RunFolderError("x."), UsageError("y.")])
def test_what_recipes_and_commands_refuse_are_mistakes(error):
    assert is_mistake(error)


def test_what_the_library_refuses_is_a_mistake():
    assert is_mistake(error_of(lambda: validate_records([{"prompt": "x"}], ("a",))))


def test_a_disk_that_is_full_is_told(tmp_path):
    from mopref._write_ahead import write_together

    (tmp_path / "file").write_text("")
    error = error_of(lambda: write_together({tmp_path / "file": {"a": b"x"}}))
    assert isinstance(error, OSError)
    assert is_mistake(error)


def test_the_same_from_elsewhere_may_be_a_fault_of_ours():
    assert not is_mistake(error_of(lambda: torch.zeros(2).reshape(3)))
    assert not is_mistake(error_of(lambda: int("x")))
    assert not is_mistake(RuntimeError("x"))
    assert not is_mistake(KeyError("x"))

import pytest

from mopref.cli import main
from mopref.recipes import Upload


@pytest.fixture
def pushed(monkeypatch):
    """What is pushed, and how."""
    calls = []

    def push(*arguments, **options):
        calls.append((arguments, options))
        return Upload("hub/OWNER/name", ["adapter_config.json", "README.md"])

    monkeypatch.setattr("mopref.cli.push.push_to_hub", push)
    return calls


def test_what_goes_up_is_told(pushed, capsys):
    assert main(["push", "run", "OWNER/name"]) == 0
    assert pushed == [(("run", "OWNER/name"), {"private": True, "revision": None})]
    printed = capsys.readouterr()
    assert printed.out == "hub/OWNER/name\n"
    assert printed.err == "Uploaded adapter_config.json, README.md.\n"


def test_public_and_a_branch(pushed):
    assert main(["push", "run", "OWNER/name", "--public", "--revision", "v2"]) == 0
    assert pushed == [(("run", "OWNER/name"), {"private": False, "revision": "v2"})]


def test_mistakes_are_sentences(trained, tmp_path, capsys):
    for arguments, words in (
        ([str(tmp_path), "OWNER/name"], "holds no run"),
        ([str(trained.folder), "a b"], "repo_id is 'a b', which no repository of the hub is called"),
        ([str(trained.folder)], "see `mopref push --help` for what it takes."),
    ):
        assert main(["push", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("mopref push: ")
        assert words in line

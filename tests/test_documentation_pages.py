"""The pages that are run from top to bottom, and every command line, make target and extra that the pages name."""

import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from _tiny_runs import write_lines
from test_documentation import PAGES, ROOT, RUN_IN_ORDER, WORDS, save_tokenizer

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.loaders import LOADERS
from mopref.llm.rewards import REWARDS
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# What is made smaller where a page is run: the model, and how long is trained.
SMALLER = {
    "steps=20_000": "steps=4, progress=False",
    "checkpoint_every=500, keep_checkpoints=3": "checkpoint_every=1, keep_checkpoints=2",
    "Qwen/Qwen2.5-0.5B-Instruct": "model",
    "steps=1000, preferences_per_step=64": "steps=5, preferences_per_step=8",
    'output="runs/first"': 'output="runs/first", training=FEW',
}


def python_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def run_page(tmp_path, monkeypatch, make_llama):
    """Run all of a page's code in one place, with a tiny model in the hub's place, and give the names that it makes."""
    monkeypatch.chdir(tmp_path)
    # What a page registers is forgotten afterwards: other tests go over all parts that there are.
    for registry in (OBJECTIVES, SCALARIZERS, SAMPLERS, LOADERS, REWARDS):
        list(registry)
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))

    def run(name: str, **given: Any) -> dict[str, Any]:
        blocks = python_blocks(name)
        if any("Qwen/" in block for block in blocks):
            save_tokenizer(tmp_path / "model")
            make_llama(vocab_size=9, max_position_embeddings=128).save_pretrained(tmp_path / "model")
        names = dict(given)
        for block in blocks:
            for old, new in SMALLER.items():
                block = block.replace(old, new)
            exec(block, names)
        return names

    return run


def test_all_pages_are_here():
    tested = re.findall(r"run_page\(\"(\w+)\"", Path(__file__).read_text(encoding="utf-8"))
    assert sorted(set(tested)) == sorted(RUN_IN_ORDER)


def test_recipes_page_on_judges(capsys):
    (block,) = (block for block in python_blocks("recipes") if "import win_rates" in block)
    *code, call = block.strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(code), names)
    assert repr(eval(call, names)) == call.partition("  # ")[2]


def test_recipes_page_on_measuring(tmp_path, monkeypatch):
    """Parts of a recipe are read with the page's first one, and its sections are theirs."""
    from mopref.recipes import load_recipe

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    parts = [part for part in others if not part.startswith("objectives:")]
    (tmp_path / "recipe.yaml").write_text(first, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml").evaluation.prompts == ("How do I fall asleep faster?",)
    assert len(parts) == 2
    for part in parts:
        recipe = {**yaml.safe_load(first), **yaml.safe_load(part)}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        read = load_recipe(tmp_path / "recipe.yaml")
        for section, settings in yaml.safe_load(part).items():
            for name in settings:
                assert getattr(getattr(read, section), name), f"{section}.{name}"


def test_readme_has_the_records_and_the_recipe_of_the_recipes_page():
    """Which are run there."""
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/recipes.md"))
    for language in ("json", "yaml"):
        first, *_ = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        assert re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL) == [first]


def test_home_from_own_files_to_a_front(run_page, tmp_path):
    from mopref.recipes import TrainingSettings

    shown = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert set(json.loads(shown.group(1))) == {"prompt", "chosen", "rejected"}
    pairs = [
        {"prompt": f"why {WORDS[i % 6]} {WORDS[i // 6]}", "chosen": "yes yes", "rejected": "no"} for i in range(36)
    ]
    write_lines(pairs, tmp_path / "helpful.jsonl")
    swapped = [{**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs]
    write_lines(swapped, tmp_path / "harmless.jsonl")
    names = run_page("index", FEW=TrainingSettings(steps=2, progress=False))
    assert names["front"].names == ("helpful", "harmless")
    assert (tmp_path / "runs" / "first" / "front.png").is_file()


def test_install_page(run_page, capsys):
    run_page("install")
    assert capsys.readouterr().out.startswith("0.")


def test_quick_start(run_page, tmp_path):
    names = run_page("quickstart")
    assert names["x"].shape == (2, 10)
    assert (tmp_path / "front.png").is_file()
    assert len(names["front"]) == 21


def test_scalarizers_page_says_what_is_printed(run_page, capsys):
    names = run_page("scalarizers")
    printed = capsys.readouterr().out
    for numbers in ("[0.1600, 0.1600]", "[0.6400, 0.6400]", "[0.3200, 0.3200]", "tensor(0.2500)"):
        assert numbers in printed
    assert printed.index("tensor([0.2000, 0.8000])") < printed.index("tensor([0.8000, 0.2000])")
    between = {name: int(count) for name, count in re.findall(r"(\w+) (\d+) of 21 points", printed)}
    assert between["Tchebycheff"] > 10
    assert between["Linear"] < 5
    assert names["trainer"].step == 5


def test_own_parts_page(run_page, tmp_path, capsys):
    names = run_page("own_parts")
    errors = names["trainer"].front(3, data=names["rows"]).values
    assert (errors.argmin(axis=0) == [2, 0]).all()
    printed = capsys.readouterr().out
    assert "tensor([[0.0000, 1.5000]])" in printed
    assert "'helpful': 0, 'brief': 1" in printed
    assert printed.endswith("tensor(5.)\n")
    for registry, part in ((OBJECTIVES, "mean-margin"), (SAMPLERS, "edges"), (LOADERS, "tab-separated")):
        assert part in registry


def test_choosing_page(run_page, capsys):
    run_page("choosing")
    assert "DPO tensor([[0.6931, 0.6931]]" in capsys.readouterr().out


def test_measuring_page(run_page, tmp_path, capsys):
    names = run_page("measuring")
    page = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
    shown = set(names["numbers"]) - {"hypervolume_exact", "reference_point", "non_dominated", "fraction_non_dominated"}
    assert not {name for name in shown if f"`{name}`" not in page} - {"hypervolume"}
    assert (tmp_path / "calibration.png").is_file()
    assert {"helpful_low", "accuracy_brief_high", "margin_helpful"} <= set(names["front"].extra)
    assert names["sampled"].lengths.shape == (3, 3)
    assert [record["step"] for record in names["measured"].records] == [0, 20, 40]
    resampled = names["resampled"]
    assert (resampled[:, 1] - resampled[:, 0]).std() < min(resampled.std(axis=0)), "the page calls it narrow"


def test_personal_page(run_page, tmp_path, make_llama, randomise, monkeypatch, capsys):
    """With an adapter of a tiny model, and somebody who always takes the first response."""
    names = ("helpful", "harmless")
    pairs = [
        {"prompt": f"why {word}", "response_0": f"{word} yes", "response_1": "no", "helpful": 0, "harmless": -1}
        for word in WORDS
    ]
    pairs += [{**pair, "prompt": f"how {pair['prompt']}"} for pair in pairs]
    write_lines(pairs, tmp_path / "records.jsonl")
    make_llama(vocab_size=9, max_position_embeddings=128).save_pretrained(tmp_path / "base")
    model = PreferenceModel.from_pretrained("base", SVDLoRAConfig(names))
    randomise(model, std=0.05).save_pretrained("runs/first/adapter")
    monkeypatch.setattr("builtins.input", lambda question: "0")
    made = run_page("personal")
    assert set(made["choices"].values()) == {0}
    assert len(made["choices"]) == 8
    assert made["region"].names == names
    assert made["chosen"].row == 1
    page = (ROOT / "docs" / "personal.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError) as error:
        made["from_targets"](made["front"], {"helpful": 0.5}, then="harmless")
    assert str(error.value) in " ".join(page.split())


def test_questions_page(run_page):
    assert run_page("faq")["model"].objectives == ("helpful", "harmless")


# Command lines.


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks; one that goes on in the next is one line."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def commands(text: str) -> list[list[str]]:
    """The commands of a line as words: parted at &&, without comments and without what is behind a >."""
    words = shlex.split(text, comments=True)
    made: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            made.append([])
        else:
            made[-1].append(word)
    return [command[: command.index(">")] if ">" in command else command for command in made]


def documented_commands() -> list[list[str]]:
    """Every command line of mopref in the pages, in blocks or in a sentence, and in the commands' own help."""
    from mopref.cli import COMMANDS

    lines = [line for page in PAGES for line in shell_lines(page)]
    for page in PAGES:
        lines += re.findall(r"`(mopref [a-z][^`]*)`", page.read_text(encoding="utf-8").replace("\n", " "))
    for name in COMMANDS:
        description = importlib.import_module(f"mopref.cli.{name}").parser().description
        examples = [line.strip() for line in description.splitlines() if line.startswith("  mopref ")]
        assert examples, f"the help of {name} has no example"
        lines += examples
    found = [command for line in lines if "…" not in line for command in commands(line) if command]
    return [command[1:] for command in found if command[0] == "mopref"]


def check_command(words: list[str]) -> None:
    """Parse a command line by its command's own parser; a bare name of a command is a mention."""
    from mopref.cli import COMMANDS
    from mopref.cli.arguments import parsed
    from mopref.recipes.method_plan import load_method_recipe

    name, *arguments = words
    assert name in COMMANDS, f"there is no command mopref {name}"
    if arguments in ([], ["inspect"], ["--help"]):
        return
    if name == "compare" and arguments[0].endswith(".yaml"):
        # The recipe itself where it is one of the examples, or else another one in its place.
        own, other = ROOT / arguments[0], ROOT / "examples" / "recipes" / "compare_demo.yaml"
        load_method_recipe(own if own.is_file() else other, arguments[1:])
        return
    # What a recipe's file says, and no flag.
    from_file = ["--objectives", "[helpful, harmless]"] if name in ("train", "data") else []
    parsed(importlib.import_module(f"mopref.cli.{name}").parser(), [*arguments, *from_file])


def test_every_documented_command_line_is_understood():
    found = documented_commands()
    assert len(found) > 20
    for words in found:
        check_command(words)


@pytest.mark.parametrize(
    "line", ["train recipe.yaml --training.stepz 3", "generate runs/first --preferences helpful=1 Hi", "export --to x"]
)
def test_a_flag_that_does_not_exist_is_seen(line):
    from mopref.cli.mistakes import UsageError

    with pytest.raises(UsageError):
        check_command(shlex.split(line))


def test_scripts_of_the_pages_and_their_flags_exist():
    found = [command for page in PAGES for line in shell_lines(page) for command in commands(line)]
    scripts = [words[1:] for words in found if words and words[0] == "python" and words[1].endswith(".py")]
    assert len(scripts) > 10
    for script, *arguments in scripts:
        source = (ROOT / script).read_text(encoding="utf-8")
        for flag in (word for word in arguments if word.startswith("--")):
            # A flag of argparse, or a field of the settings that a parser is made of.
            field = flag.removeprefix("--").replace("-", "_")
            assert re.search(rf'"{flag}"|^    {field}: ', source, re.MULTILINE), f"{script} has no {flag}"


def test_make_targets_and_extras_of_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    named_targets, named_extras = set(), set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named_targets |= set(re.findall(r"`make ([a-z][\w-]*)`", text))
        named_targets |= {words[1] for line in shell_lines(page) for words in commands(line) if words[0] == "make"}
        named_extras |= set(re.findall(r"(?:mopref|\.)\[([a-z]+)\]", text))
    assert {"demo", "test", "docs"} <= named_targets <= targets
    assert {"llm", "torchjd"} <= named_extras <= extras
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert {name for name in extras if f"`{name}`" not in install} == set(), "the page on installing lists every extra"


def test_every_room_has_a_page_of_the_reference():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", reference, re.MULTILINE))
    # A face of nothing, one that its rooms stand for, loaders that mopref.llm.data gives, stored points, and the parts
    # of a page that only the command serves.
    without = {"mopref", "mopref.llm", "mopref.llm.data.loaders", "mopref.objectives.data", "mopref.serving.page"}
    assert set(packages) - without <= shown
    index = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    assert {name for name in set(packages) - without if f"`{name}`" not in index} == set()


def test_every_command_is_listed_in_the_reference_with_its_own_words():
    from mopref.cli import COMMANDS

    page = (ROOT / "docs" / "api" / "cli.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `mopref (\w+)[^`]*` \| (.*) \|$", page, re.MULTILINE))
    assert listed == COMMANDS


def test_top_level_names_are_listed_in_the_reference():
    import mopref

    index = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    assert {name for name in mopref.__all__ if f"`{name}`" not in index} == set()


def test_the_version_is_the_same_everywhere():
    import mopref

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (cited,) = re.findall(r"^version: (.*)$", citation, re.MULTILINE)
    assert mopref.__version__ == project["version"] == cited


def test_reliability_goes_on_where_it_was(run_page):
    assert run_page("reliability")["trainer"].step == 4
    # Started again, there is nothing left to do.
    assert run_page("reliability")["trainer"].step == 4
    assert sorted(path.name for path in Path("runs/zdt2").iterdir()) == ["checkpoint-3", "checkpoint-4"]


def test_several_processes_are_the_script_of_one(run_page, tmp_path):
    labels = {"helpful": 0, "harmless": 1, "brief": 0}
    rows = [{"prompt": f"why {word}", "response_0": "yes", "response_1": "no maybe", **labels} for word in WORDS * 2]
    write_lines(rows, tmp_path / "records.jsonl")
    assert run_page("several_processes")["trainer"].step == 4
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_configurations_of_accelerate_are_read(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    for path in (ROOT / "examples" / "accelerate").glob("*.yaml"):
        config = load_config_from_file(str(path))
        assert config.num_processes == (1 if path.stem == "trainer_beside_vllm" else 8)
        assert "NOT RUN WITHOUT GPUS" in path.read_text(encoding="utf-8")

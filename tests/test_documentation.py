"""What the documentation shows is true: docstring examples, and the README's code for one's own problem."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import mopref
import mopref.objectives
import mopref.scalarizers

MODULES = sorted(
    module.name
    for package in (mopref, mopref.objectives, mopref.scalarizers)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
)
# What imports the packages of the extra "serve".
NEEDS_SERVE = [f"mopref.serving.{name}" for name in ("api", "forms", "guard", "launch", "reception", "stream_events")]
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
WORDS = ["Hello", "yes", "no", "maybe", "why", "how"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Files that stand for ones to be written.
EXAMPLE_FILES = {"scalarizers/weighted_power.py", "mopref/x/y.py", "tests/x/test_y.py"}
# Every block of Python in the documentation, by a text that is in no other, and the test below that runs it
# (that of docs/server.md is tests/serving/test_documented_requests.py).
BLOCKS = [
    ("README.md", "load_pku_saferlhf"),
    ("README.md", "class Mine(Problem)"),
    ("README.md", "class WeightedPower(Scalarizer)"),
    ("docs/data.md", "import load_preference_pairs, tokenize_records"),
    ("docs/data.md", "likeness = recognise_shape(row)"),
    ("docs/data.md", "import DataSource"),
    ("docs/data.md", "import load_rated_answers"),
    ("docs/data.md", "import load_graded_pairs"),
    ("docs/data.md", "import load_beavertails"),
    ("docs/data.md", "tokenize_unpaired"),
    ("docs/data.md", "import on_policy_pairs"),
    ("docs/data.md", "from_generator"),
    ("docs/data.md", "import LoadReport"),
    ("docs/recipes.md", "from mopref.recipes import"),
    ("docs/recipes.md", "win_rates"),
    ("docs/models.md", "BitsAndBytesConfig"),
    ("docs/rlhf.md", "ClassifierReward"),
    ("docs/rlhf.md", "import VLLM"),
    ("docs/rlhf.md", "import cone_preferences"),
    ("docs/serving.md", "import export"),
    ("docs/serving.md", "add_weighted_adapter"),
    ("docs/serving.md", "import request_scales"),
    ("docs/server.md", "from openai import OpenAI"),
    ("docs/sft.md", "tokenize_responses"),
]
# Pages whose blocks are run in their order, as a reader does: tests/test_documentation_pages.py.
RUN_IN_ORDER = (
    "choosing",
    "faq",
    "index",
    "install",
    "measuring",
    "own_parts",
    "personal",
    "quickstart",
    "reliability",
    "scalarizers",
    "several_processes",
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name in NEEDS_SERVE:
        pytest.importorskip("fastapi")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_docstring_examples():
    assert {"mopref.preferences", "mopref.problem", "mopref.scalarizers.pbi"} <= set(MODULES)
    assert doctest.testmod(importlib.import_module("mopref.scalarizers.pbi")).attempted > 0


def code_block(containing: str, text: str = README) -> str:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if containing in block)
    return block


def test_every_block_of_code_is_run_by_a_test():
    in_order = {f"docs/{name}.md" for name in RUN_IN_ORDER}
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES} - in_order
    blocks = {page: (ROOT / page).read_text(encoding="utf-8").count("```python") for page in pages}
    expected = {page: sum(place == page for place, _ in BLOCKS) for page in pages}
    assert blocks == expected


def test_files_that_the_documentation_names_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:mopref|objectives|scalarizers|tests|examples|benchmarks|docs)/[\w./-]+)`", text)
        for name in {name for name in named if "…" not in name}:
            assert (ROOT / name).exists() or name in EXAMPLE_FILES, f"{page.name} names {name}"
        for link, anchor in re.findall(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)", text):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name} links to {link}"
            assert not anchor or anchor in anchors(target), f"{page.name} links to {link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are reached by, on GitHub and on the site."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_names_that_the_documentation_imports_exist():
    for page in PAGES:
        for name in set(re.findall(r"`(mopref(?:\.\w+)+)`", page.read_text(encoding="utf-8"))):
            module, _, attribute = name.rpartition(".")
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(module), attribute), f"{page.name} names {name}"


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of six words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<unk>", "<s>", "</s>", *WORDS])}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    ).save_pretrained(folder)


def test_readme_own_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code_block("class Mine(Problem)"), names)
    assert (tmp_path / "front.png").stat().st_size > 0
    assert (tmp_path / "front.json").stat().st_size > 0
    # The front is √f1 + √f2 = 1: the area below the reference point (1.1, 1.1) is 1.21 − 1/6, a little less for points.
    assert names["front"].hypervolume([1.1, 1.1]) == pytest.approx(1.21 - 1 / 6, abs=0.02)


def test_readme_own_scalarizer():
    import torch

    from mopref.registry import SCALARIZERS

    names: dict = {}
    exec(code_block("class WeightedPower(Scalarizer)"), names)
    value = names["WeightedPower"](power=2.0)(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
    assert value.item() == pytest.approx(5.0)
    assert repr(SCALARIZERS.make("weighted-power", power=3.0)) == "WeightedPower(power=3.0)"


PUBLIC = {
    "mopref": (
        "ParetoTrainer TrainerConfig Front Objective Problem Scalarizer PreferenceSampler PreferenceModel "
        "SVDLoRAConfig ParetoSetModel simplex_lattice even_preferences"
    ),
    "mopref.objectives": (
        "Quadratic ZDT1 ZDT2 ZDT3 ZDT4 ZDT6 DTLZ1 DTLZ2 DTLZ3 DTLZ4 VLMOP1 VLMOP2 VLMOP3 RE21 RE24 RE33 RE37 "
        "SFT DPO RLHF"
    ),
    "mopref.scalarizers": (
        "Linear Tchebycheff ModifiedTchebycheff AugmentedTchebycheff SmoothTchebycheff PBI InvertedPBI PNorm COSMOS "
        "Hypervolume AchievementScalarizing AugmentedAchievementScalarizing Normalized"
    ),
    "mopref.indicators": (
        "hypervolume igd igd_plus gd gd_plus inner_product sparsity spacing non_dominated fill_distance cross_angle"
    ),
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package):
    for name in PUBLIC[package].split():
        assert getattr(importlib.import_module(package), name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = importlib.import_module(package).Nonsense


def test_readme_language_model_tour(tmp_path, monkeypatch, make_llama):
    """The tour as it is written, with a tiny model and a small file in place of the hub's."""
    import json

    save_tokenizer(tmp_path / "model")
    make_llama().save_pretrained(tmp_path / "model")
    rows = [
        {
            "prompt": f"why {WORDS[i % 6]}",
            "response_0": "yes yes",
            "response_1": "no",
            "better_response_id": i % 2,
            "safer_response_id": (i // 2) % 2,
        }
        for i in range(24)
    ]
    (tmp_path / "pku.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    tour = code_block("load_pku_saferlhf").replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "model"))
    tour = tour.replace("limit=10_000", f"{str(tmp_path / 'pku.jsonl')!r}").replace("steps=1000", "steps=2")
    monkeypatch.chdir(tmp_path)
    exec(tour, {})
    for made in ("adapter", "lora-70-30", "loras/shared", "loras/helpful", "loras/harmless"):
        assert (tmp_path / made / "adapter_model.safetensors").is_file()


def test_rlhf_page(tmp_path, monkeypatch, make_llama):
    """The page's code as it is written, with tiny models in place of the hub's."""
    import torch
    from transformers import LlamaForSequenceClassification

    save_tokenizer(tmp_path / "model")
    save_tokenizer(tmp_path / "judge")
    policy = make_llama(vocab_size=9)
    policy.save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    config = policy.config
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "judge")
    page = (ROOT / "docs" / "rlhf.md").read_text(encoding="utf-8")
    code = code_block("ClassifierReward", page).replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "model"))
    for name in ("your-org/reward-model", "your-org/cost-model"):
        code = code.replace(name, str(tmp_path / "judge"))
    code = code.replace("steps=1000", "steps=2").replace("max_new_tokens=256", "max_new_tokens=3")
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    record = names["objective"].history[-1]
    assert len(names["objective"].history) == 16
    assert {"reward/helpful", "reward/harmless", "reward/polite", "response_length"} <= set(record)
    exec(code_block("import VLLM", page), names)
    assert "engine=VLLM('http://127.0.0.1:8000'" in repr(names["on_an_engine"])
    exec(code_block("import cone_preferences", page), names)
    told = torch.tensor([[0.25, 0.08, 0.67], [0.50, 0.17, 0.33]]).double()
    torch.testing.assert_close(names["preferences"], told, atol=5e-3, rtol=0)


def test_data_page(tmp_path, monkeypatch, capsys, make_llama):
    """The page's code as it is written, on the files that it shows, with a tiny model in place of the hub's."""
    save_tokenizer(tmp_path / "model")
    make_llama(vocab_size=9).save_pretrained(tmp_path / "model")
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    shown = re.findall(r"`([a-z]+\.jsonl)`[^`]*:\n\n```json\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in shown] == ["helpful.jsonl", "harmless.jsonl", "rated.jsonl"]
    for name, content in shown:
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    made = {}
    for block in (part for place, part in BLOCKS if place == "docs/data.md"):
        code = code_block(block, page).replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "model"))
        exec(code, names)
        made[block] = names["records"] if "records" in names else names["pairs"]
    lock, cats = made["import load_preference_pairs, tokenize_records"][::-1]
    assert lock["helpful"] + lock["harmless"] == 1
    assert (cats["harmless"], cats[f"response_{cats['helpful']}"]) == (-1, "To calm down and to heal.")
    (record,) = made["likeness = recognise_shape(row)"]
    assert record["prompt"][0] == {"role": "system", "content": "Be brief."}
    (record,) = made["import load_rated_answers"]
    assert record["helpful"] == record["concise"]
    (record,) = made["import load_beavertails"]
    assert record["harmless"] == record["private"] >= 0
    assert len(names["rows"]) == 2
    assert [len(row["reference_log_probabilities"]) for row in names["rows"]] == [2, 2]
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("pairs with a prompt load_preference_pairs({'objective': source}, columns={'prompt'")
    assert f"# {output[-1]}" in page, "what is printed is what the page says"


def test_sft_page(tmp_path, monkeypatch, make_llama):
    """The page's code as it is written, with a tiny model in place of the hub's."""
    save_tokenizer(tmp_path / "model")
    make_llama(vocab_size=9).save_pretrained(tmp_path / "model")
    page = (ROOT / "docs" / "sft.md").read_text(encoding="utf-8")
    code = code_block("tokenize_responses", page).replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code.replace("steps=1000", "steps=2"), names)
    assert [sum(row["dimensions"]) for row in names["rows"]] == [1, 1, 1]


def test_models_page_on_quantised_bases(tmp_path, make_llama):
    """The page's code as it is written, with a tiny model in place of the hub's."""
    pytest.importorskip("bitsandbytes")
    make_llama().save_pretrained(tmp_path / "model")
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(code_block("BitsAndBytesConfig", page).replace("Qwen/Qwen2.5-7B-Instruct", str(tmp_path / "model")), names)
    assert len(names["model"].adapters) == 14


def test_serving_page(tmp_path, monkeypatch, make_llama, randomise, capsys):
    """Its code, on an adapter's folder in place of a run's: in stock PEFT a set is the model at that preference."""
    pytest.importorskip("peft")
    pytest.importorskip("gguf")
    import torch
    from transformers import AutoModelForCausalLM

    from mopref import PreferenceModel, SVDLoRAConfig
    from mopref.serving import export_gguf_loras

    make_llama().save_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model = randomise(PreferenceModel(base, SVDLoRAConfig(objectives=("helpful", "harmless")))).eval()
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("runs/first")
    model.export_lora_set("loras")
    export_gguf_loras(model, "gguf")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in ("import export", "add_weighted_adapter", "import request_scales"):
        exec(code_block(block, page).replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "model")), names)
    assert "helpful=0.50,harmless=0.50/adapter_model.safetensors" in names["exported"].files
    (line,) = (line for line in page.splitlines() if line.startswith("curl"))
    assert json.loads(shlex.split(line)[-1])["lora"] == ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    ids = torch.arange(5, 21).view(2, 8)
    with torch.no_grad():
        expected = model(input_ids=ids, preferences={"helpful": 0.7, "harmless": 0.3}).logits
        torch.testing.assert_close(names["served"].eval()(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def tiny_recipes(tmp_path, monkeypatch, make_llama):
    """The recipes of the page, with a tiny model, few steps and own records, in the folder of the test."""
    import json

    save_tokenizer(tmp_path / "model")
    make_llama(vocab_size=9).save_pretrained(tmp_path / "model")
    names = ("helpful", "harmless", "brief")
    texts = {"prompt": "why yes", "response_0": "yes yes", "response_1": "no"}
    records = [
        {
            **texts,
            "prompt": f"why {WORDS[i % 6]} {WORDS[i // 6 % 6]}",
            **{name: (i >> k) % 2 for k, name in enumerate(names)},
        }
        for i in range(36)
    ]
    styles = [
        {"prompt": record["prompt"], "response": style, "dimension": name}
        for record in records
        for style, name in (("yes", "brief"), ("no maybe", "polite"))
    ]
    answers = [
        {"prompt": record["prompt"], "response": "yes yes", "helpful": record["helpful"], "brief": record["brief"]}
        for record in records
    ]
    for name, rows in (("records", records), ("styles", styles), ("prompts", records), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def shortened(text: str) -> str:
        for old, new in (("Qwen/Qwen2.5-0.5B-Instruct", "model"), ("steps: 500", "steps: 2"), ("steps=500", "steps=2")):
            text = text.replace(old, new)
        return text.replace('prompts: ["How do I fall asleep faster?"]', "prompts: [why Hello]\n  max_new_tokens: 3")

    return shortened


def test_recipes_page_from_records_to_a_front(tiny_recipes, tmp_path, capsys):
    """The page's records, recipe, commands and code, as they are written."""
    import json
    import shlex

    from mopref.cli import main
    from mopref.recipes import load_recipe

    (lines,) = blocks("json", "recipes.md")
    assert [set(json.loads(line)) for line in lines.splitlines()] == [
        {"prompt", "response_0", "response_1", "helpful", "harmless", "brief"}
    ] * 2
    recipe, *_ = blocks("yaml", "recipes.md")
    assert len(recipe.splitlines()) == 10
    # As a reader writes it, before anything in it is made tiny.
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert load_recipe(tmp_path / "recipe.yaml").evaluation.prompts == ("How do I fall asleep faster?",)
    (tmp_path / "recipe.yaml").write_text(tiny_recipes(recipe))
    (commands,) = blocks("bash", "recipes.md")
    for command in commands.splitlines():
        program, *arguments = shlex.split(command.replace("steps 1000", "steps 3"))
        assert program == "mopref"
        # A server does not end; its own tests start one.
        assert arguments[0] == "serve" or main(arguments) == 0, command
    for made in ("runs/first/front.png", "runs/first/answers.json", "runs/first-15/front.json", "runs/second/adapter"):
        assert (tmp_path / made).exists(), made
    assert (tmp_path / "lora-70-20-10" / "adapter_model.safetensors").is_file()
    names: dict = {}
    exec(
        tiny_recipes(
            code_block("from mopref.recipes import", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"))
        ),
        names,
    )
    assert names["model"].objectives == ("helpful", "harmless", "brief")

    capsys.readouterr()
    (tmp_path / "recipe.yaml").write_text(tiny_recipes(recipe).replace("steps:", "stepz:"))
    assert main(["train", "recipe.yaml"]) == 2
    assert capsys.readouterr().err in blocks("text", "recipes.md")


OTHER_OBJECTIVES = ["simpo", "orpo", "kto", "sft", "rlhf", "online-dpo"]


@pytest.mark.parametrize("number", range(7), ids=[*OTHER_OBJECTIVES, "rlhf with a pull"])
def test_recipes_page_on_other_objectives(tiny_recipes, tmp_path, number):
    pytest.importorskip("vaderSentiment")
    from mopref.cli import main
    from mopref.recipes import load_recipe
    from mopref.recipes.rows import KINDS

    assert KINDS.keys() == {"dpo", *OTHER_OBJECTIVES}
    _, *recipes = [block for block in blocks("yaml", "recipes.md") if block.startswith("objectives:")]
    assert len(recipes) == len(OTHER_OBJECTIVES)
    recipes += blocks("yaml", "rlhf.md")
    (tmp_path / "whole.yaml").write_text(recipes[number])
    assert load_recipe(tmp_path / "whole.yaml").objective.name == [*OTHER_OBJECTIVES, "rlhf"][number]
    (tmp_path / "recipe.yaml").write_text(tiny_recipes(recipes[number]))
    few = ["--training.steps", "2", "--data.test_fraction", "0.25"]
    few += ["--training.batch_size", "8", "--training.preferences_per_step", "2"]
    few += [] if "preferences:" in recipes[number] else ["--evaluation.points", "3"]
    assert main(["train", "recipe.yaml", *few]) == 0


def test_recipes_page_on_what_is_measured(tiny_recipes, tmp_path, capsys):
    """The sections of the page are run, but for the judge that is a model of the hub's."""
    import json

    import yaml

    from mopref.cli import main

    pytest.importorskip("tensorboard")
    recipe, *_ = blocks("yaml", "recipes.md")
    monitoring, judges = [block for block in blocks("yaml", "recipes.md") if not block.startswith("objectives:")]
    tree = yaml.safe_load(tiny_recipes(recipe))
    for name, section in yaml.safe_load(monitoring).items():
        tree[name] = {**tree.get(name, {}), **section}
    tree["monitoring"] |= {"evaluation_every": 1, "sampled_prompts": 2}
    tree["evaluation"]["judges"] = {"brief": yaml.safe_load(judges)["evaluation"]["judges"]["brief"]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    few = ["--training.steps", "2", "--evaluation.points", "3", "--evaluation.sampled_prompts", "2"]
    assert main(["train", "recipe.yaml", *few]) == 0
    assert "win_rate_brief" in capsys.readouterr().out
    (folder,) = (path.parent for path in tmp_path.rglob("evaluations.jsonl"))
    records = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2]
    assert {"answers", "hypervolume"} <= records[0].keys()


def test_settings_that_the_recipes_page_names_are_read(tiny_recipes, tmp_path):
    """The lines within the text: each is put into a recipe, and what is left out there filled in."""
    import yaml

    from mopref.recipes import load_recipe

    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:data|training|scalarizer|model): \{.*?\})`", page, re.DOTALL)
    assert len(named) >= 8
    tree = {"objectives": ["helpful", "harmless"], "data": {"source": "records.jsonl"}}
    for text in named:
        section = yaml.safe_load(text.replace("columns: {…}", "columns: {}").replace("…", "anything"))
        (name,) = section
        names = ["helpful", "brief"] if "brief" in text else ["helpful", "harmless"]
        (tmp_path / "one.yaml").write_text(yaml.safe_dump({**tree, "objectives": names, **section}))
        made = load_recipe(tmp_path / "one.yaml")
        assert getattr(made, name) != getattr(load_recipe_of(tree, tmp_path), name), text


def load_recipe_of(tree: dict, folder: Path):
    import yaml

    from mopref.recipes import load_recipe

    (folder / "plain.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(folder / "plain.yaml")


def test_every_recipe_that_is_an_example_can_be_read():
    from mopref.recipes import load_method_recipe, load_recipe

    files = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
    assert files
    for file in files:
        is_comparison = file.name.startswith("compare_")
        load_method_recipe(file) if is_comparison else load_recipe(file)

"""The card of an export: its lines for the hub, its commands and code for every form, and texts of others in it."""

import json
import re
import shlex

import pytest
import torch
from _run_folders import HOSTILE, write_run
from huggingface_hub import ModelCard

from mopref.recipes import ModelSettings
from mopref.recipes.model_card import finished_run, is_own_card
from mopref.serving.export_card import ExportContents, card_of_adapter, card_of_run

NAMES = ("helpful", "harmless")
ONE = torch.tensor([[0.7, 0.3]])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DESCRIPTION = {"base_model": "OWNER/model", "base_revision": COMMIT, "base_is_local": False, "rank": 8}
DESCRIPTION |= {"preference_rank": 4, "preference_convention": "importance", "versions": {"torch": "2", "system": "x"}}
SETS = {"lora-set": ("shared", *NAMES), "gguf": ("shared.gguf", "helpful.gguf", "harmless.gguf")}
SCALES = {"shared": 1.0, "helpful": 0.7, "harmless": 0.3}


@pytest.fixture
def files(tmp_path):
    return finished_run(write_run(tmp_path / "run"))


def contents_of(form, **options):
    fixed = {"preferences": ONE} if form in ("lora", "merged") else {}
    of_set = {"parts": SETS[form], "scales": SCALES} if form in SETS else {}
    return ExportContents(form, NAMES, **{"rank": 16, **of_set, **fixed, **options})


def test_a_grid_of_one_is_one_balance(files):
    parts = ("helpful=0.70,harmless=0.30",)
    assert "# One balance of helpful, harmless, as a LoRA\n" in card_of_run(
        contents_of("lora-grid", parts=parts, preferences=ONE), files
    )
    card = card_of_run(contents_of("lora-grid", parts=(*parts, "b"), preferences=ONE.repeat(2, 1)), files)
    assert "# 2 balances of helpful, harmless, a LoRA for each\n" in card


@pytest.mark.parametrize(
    ("form", "library", "relation", "kinds"),
    [
        ("lora", "peft", "adapter", ["lora"]),
        ("lora-set", "peft", "adapter", ["lora"]),
        ("gguf", None, "adapter", ["lora", "gguf", "llama.cpp"]),
        ("merged", "transformers", "finetune", []),
    ],
)
def test_the_lines_for_the_hub_say_what_is_known(form, library, relation, kinds, files):
    card = card_of_run(contents_of(form, licence="apache-2.0"), files)
    data = ModelCard(card).data.to_dict()
    tags = ["mopref", "multi-objective", "pareto-front", "preference-conditioned", *kinds, "dpo"]
    assert data.pop("library_name", None) == library
    assert data == {
        "base_model": "OWNER/model",
        "base_model_relation": relation,
        "license": "apache-2.0",
        "datasets": ["OWNER/pairs"],
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    assert is_own_card(card)
    assert ("the base model's weights are in this folder" in card) == (form == "merged")


def test_it_has_the_runs_front_data_recipe_and_what_a_weight_of_nothing_is(files):
    card = card_of_run(contents_of("lora"), files)
    for text in ("![What the model reaches", "Hypervolume:", "## Data and limits", "```yaml"):
        assert text in card
    assert "At λ\\_i = 0 objective i counted for nothing: that model is deliberately worse by it" in card
    assert "λ = (helpful 0.7, harmless 0.3)" in card
    assert "license" not in ModelCard(card).data.to_dict()
    assert "None was chosen" in card
    assert not any(text in card for text in HOSTILE)


def test_the_recipe_of_a_set_is_written_out(files):
    card = card_of_run(contents_of("lora-set"), files)
    assert (
        'model.add_weighted_adapter(["lora_shared", "lora_helpful", "lora_harmless"], weights, "balanced", '
        'combination_type="cat")' in card
    )
    assert "weights = [1.0, 0.7, 0.3]  # 1 for what all share" in card
    assert "plus all of `shared` plus λ_i times the LoRA of objective i, exactly:\n" in card
    assert "Those weights are of λ = (helpful 0.7, harmless 0.3)" in card
    unshared = {name: SCALES[name] for name in NAMES}
    alone = card_of_run(contents_of("lora-set", parts=NAMES, scales=unshared), files)
    assert (
        'add_weighted_adapter(["lora_helpful", "lora_harmless"], weights, "balanced", combination_type="cat")' in alone
    )
    assert "weights = [0.7, 0.3]  # λ" in alone
    assert "`shared`" not in alone
    scales = {"shared": 1.0, "a.b": 0.5, "a_b": 0.25, "balanced": 0.15, "values": 0.1}
    dotted = card_of_run(ExportContents("lora-set", tuple(scales)[1:], tuple(scales), rank=4, scales=scales), files)
    for folder, name in (
        ("a.b", "lora_a_b"),
        ("a_b", "lora_a_b_"),
        ("balanced", "lora_balanced"),
        # An attribute of what PEFT keeps adapters in.
        ("values", "lora_values"),
    ):
        assert f'folder + "/{folder}", adapter_name="{name}"' in dotted
    assert 'model.set_adapter("balanced")' in dotted


def test_a_set_with_directions_tells_how_they_are_scaled(files):
    scales = SCALES | {"direction-1": -0.123456789, "direction-2": 2.0}
    card = card_of_run(contents_of("lora-set", parts=tuple(scales), scales=scales), files)
    for text in (
        "What all preferences share, one LoRA for each objective, and one for each direction, for ",
        "plus λ_i times the LoRA of objective i plus δ_j(λ) times that of direction j, exactly, with δ(λ) = D",
        "= D · tanh(A (2·λ − 1) + b) of the numbers in `scales.json`, where D is `gate_mixture`, A is `gate_weight`",
        "* direction-1 to direction-2: each times its own δ_j(λ)",
        "weights = [1.0, 0.7, 0.3, -0.1234568, 2.0]  # 1 for what all share, and then λ, and then δ(λ)",
        'add_weighted_adapter(["lora_shared", "lora_helpful", "lora_harmless", *directions], weights, "balanced"',
    ):
        assert text in card
    unshared = {name: scale for name, scale in scales.items() if name != "shared"}
    assert contents_of("lora-set", parts=tuple(unshared), scales=unshared).directions == ("direction-1", "direction-2")
    gguf = tuple(f"{name}.gguf" for name in scales)
    card = card_of_run(contents_of("gguf", parts=gguf, scales=scales), files)
    assert "* direction-1.gguf to direction-2.gguf: each times its own δ_j(λ)" in card
    (line,) = re.findall(r"^llama-server .*$", card, re.MULTILINE)
    assert shlex.split(line)[4] == ",".join(gguf)
    (body,) = re.findall(r"-d '(\{.*\})'", card)
    assert json.loads(body)["lora"][3:] == [{"id": 3, "scale": -0.1234568}, {"id": 4, "scale": 2.0}]


@pytest.mark.parametrize(("rank", "allowed"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (300, 320), (512, 512)])
def test_the_engine_is_given_a_rank_that_it_takes(rank, allowed, files):
    card = card_of_run(contents_of("lora", rank=rank), files)
    (line,) = re.findall(r"^vllm serve .*$", card, re.MULTILINE)
    words = shlex.split(line)
    assert words[:3] == ["vllm", "serve", "OWNER/model"]
    assert words[words.index("--max-lora-rank") + 1] == str(allowed)
    assert json.loads(words[words.index("--lora-modules") + 1]) == {"name": "adapter", "path": "FOLDER"}


def test_a_rank_that_the_engine_does_not_take_is_told(files):
    card = card_of_run(contents_of("lora", rank=513), files)
    assert "vllm serve" not in card
    assert "vLLM takes LoRAs up to rank 512, and not 513" in card


def test_a_grid_lists_its_folders_each_with_its_preference(files):
    folders = ("helpful=0.33,harmless=0.67", "helpful=1.00,harmless=0.00")
    preferences = torch.tensor([[1 / 3, 2 / 3], [1, 0]], dtype=torch.float64)
    card = card_of_run(contents_of("lora-grid", parts=folders, preferences=preferences), files)
    assert "helpful=0.33,harmless=0.67: λ = (helpful 0.3333, harmless 0.6667)" in card
    (line,) = re.findall(r"^vllm serve .*$", card, re.MULTILINE)
    assert json.loads(shlex.split(line)[-1])["path"] == f"FOLDER/{folders[0]}"


def test_an_objective_of_any_name_stays_text_in_card_and_commands(files):
    name = "it's `x` | <b>{{ y }}"
    parts = ("shared.gguf", f"{name}.gguf", "b.gguf")
    scales = {"shared": 1.0, name: 0.7, "b": 0.3}
    card = card_of_run(ExportContents("gguf", (name, "b"), parts, rank=4, scales=scales), files)
    assert "{{ y }}" in card
    assert "<b>" not in re.sub(r"(?s)```.*?```", "", card)
    (line,) = re.findall(r"^llama-server .*$", card, re.MULTILINE)
    assert shlex.split(line)[4] == ",".join(parts)


def test_the_base_is_taken_at_the_commit_that_the_adapter_records():
    card = card_of_adapter(contents_of("lora"), DESCRIPTION)
    assert f'model = AutoModelForCausalLM.from_pretrained(base, revision="{COMMIT}")' in card
    assert 'base = "OWNER/model"' in card
    assert "torch 2" in card
    assert "system" not in card
    assert "exported without its run" in card
    assert "## How it was trained" not in card
    assert "deliberately worse" in card
    ray = card_of_adapter(contents_of("lora"), {**DESCRIPTION, "preference_convention": "ray"})
    assert "LARGER loss of objective i" in ray


@pytest.mark.parametrize("form", ["lora", "lora-set", "gguf", "merged"])
def test_no_path_of_this_machine_is_told(form, tmp_path):
    run = finished_run(write_run(tmp_path / "run", model=ModelSettings(name="/home/me/model")))
    description = {**DESCRIPTION, "base_model": "/home/me/model", "base_is_local": True}
    for card in (card_of_run(contents_of(form), run), card_of_adapter(contents_of(form), description)):
        assert "/home" not in card
        assert "base_model" not in ModelCard(card).data.to_dict()

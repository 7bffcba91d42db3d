"""Which models are causal language models: told by their class, their settings, and what a few tokens show."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling, sample_responses
from mopref.llm.policy.model_kind import (
    checked_logits,
    refuse_no_generation,
    refuse_other_kinds,
    refuse_seen_answers,
)
from mopref.llm.policy.padding import padding_traits
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, RLHF, SFT
from mopref.scalarizers import Linear

transformers = pytest.importorskip("transformers")
sys.path.append(str(Path(__file__).parents[2] / "families"))

NAMES = ("a", "b")
CONFIG = SVDLoRAConfig(objectives=NAMES, rank=2, preference_rank=2)
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TRAINING = TrainerConfig(steps=1, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
PAIRS = [{"prompt_ids": [3], "response_0_ids": [4], "response_1_ids": [5], "labels": [0, 1]}] * 4
ANSWERS = [{"prompt_ids": [3], "response_ids": [4], "dimensions": [1, 1]}] * 4
PROMPTS = [{"prompt_ids": [3]}] * 4
preferences = torch.tensor([[0.5, 0.5]])


@token_reward
def length(prompt_ids, response_ids):
    return [float(len(ids)) for ids in response_ids]


def llama_config(**options):
    return transformers.LlamaConfig(vocab_size=50, num_key_value_heads=2, pad_token_id=0, **SIZES, **options)


def bert_config(**options):
    return transformers.BertConfig(vocab_size=50, **SIZES, **options)


# As many classes as tokens, so that the shapes alone tell nothing.
OTHER_KINDS = {
    "a body without a head": lambda: transformers.LlamaModel(llama_config()),
    "an encoder": lambda: transformers.BertModel(bert_config()),
    "a classifier of texts": lambda: transformers.LlamaForSequenceClassification(llama_config(num_labels=50)),
    "a classifier of tokens": lambda: transformers.LlamaForTokenClassification(llama_config(num_labels=50)),
    "a reader": lambda: transformers.LlamaForQuestionAnswering(llama_config()),
    "a masked language model": lambda: transformers.BertForMaskedLM(bert_config()),
    "a classifier of images": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=32, patch_size=8, **SIZES)
    ),
}


def objectives():
    rewards = {name: length for name in NAMES}
    yield DPO(NAMES), PAIRS
    yield SFT(NAMES), ANSWERS
    sampling = Sampling(max_new_tokens=2, stop_token_ids=())
    yield RLHF(rewards, sampling=sampling, samples_per_prompt=2), PROMPTS


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_classes_that_generate_nothing_are_refused_when_a_trainer_is_made(kind):
    base = OTHER_KINDS[kind]()
    model = PreferenceModel(base, CONFIG)
    message = f"{type(base).__name__} predicts no next tokens, .*: use a causal language model"
    for objective, data in objectives():
        with pytest.raises(ValueError, match=message):
            ParetoTrainer(model, objective, Linear(), train_data=data, config=TRAINING)
    for use in (
        lambda: refuse_other_kinds(base),
        lambda: Policy(base),
        lambda: Policy(model),
        lambda: sample_responses(model, [[3]], preferences, Sampling(stop_token_ids=())),
        lambda: DPO(NAMES).precompute(model, PAIRS),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_class_from_elsewhere_need_not_generate(make_llama):
    class Own(type(make_llama())):
        @classmethod
        def can_generate(cls):
            return False

    refuse_other_kinds(Own(make_llama().config))


def test_outputs_without_names_are_refused(make_llama):
    base = make_llama(return_dict=False)
    with pytest.raises(ValueError, match=r"the config of LlamaForCausalLM has return_dict = False, .*: set model"):
        Policy(PreferenceModel(base, CONFIG))


def test_a_model_without_generate_gives_no_responses(make_llama, make_mlp):
    refuse_no_generation(make_llama())
    model = PreferenceModel(make_mlp(), CONFIG)
    sampling = Sampling(max_new_tokens=2, stop_token_ids=())
    for use in (
        lambda: refuse_no_generation(model.base_model),
        lambda: sample_responses(model, [[3]], preferences, sampling),
        lambda: Policy(model, sampling).sample([[3]], preferences, 1),
        lambda: Policy(model, sampling).check_prompts(PROMPTS),
    ):
        with pytest.raises(ValueError, match=r"has no generate\(\), so that no responses are had from it"):
            use()


# Logits.


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((torch.zeros(1, 3, 100),), "LlamaForCausalLM returns a tuple without logits"),
        (SimpleNamespace(last_hidden_state=torch.zeros(1, 3, 16)), "returns a SimpleNamespace without logits"),
        (SimpleNamespace(logits=None), "without logits"),
        (SimpleNamespace(logits=torch.zeros(1, 100)), r"logits of shape \(1, 100\) for tokens of shape \(1, 3\)"),
        (SimpleNamespace(logits=torch.zeros(1, 2, 100)), r"logits of shape \(1, 2, 100\)"),
        (SimpleNamespace(logits=torch.zeros(1, 3, 4, 100)), r"logits of shape \(1, 3, 4, 100\)"),
        (SimpleNamespace(logits=torch.zeros(1, 3, 1)), r"\(1, 3, 1\) .*, not one for each of 100 tokens at each place"),
    ],
)
def test_outputs_that_are_no_logits_of_tokens_are_refused(output, message, make_llama):
    with pytest.raises(ValueError, match=message):
        checked_logits(make_llama(), output, torch.zeros(1, 3, dtype=torch.int64))


def test_logits_of_tokens_are_taken_and_any_of_a_model_that_does_not_say_how_many_it_has(make_llama):
    ids = torch.zeros(2, 3, dtype=torch.int64)
    logits = torch.zeros(2, 3, 100)
    assert checked_logits(make_llama(), SimpleNamespace(logits=logits), ids) is logits
    other = torch.zeros(2, 3, 7)
    assert checked_logits(nn.Linear(2, 2), SimpleNamespace(logits=other), ids) is other


def test_a_head_of_values_in_place_of_that_of_tokens_is_refused_at_the_first_use(make_llama):
    base = make_llama()
    base.lm_head = nn.Linear(64, 1)
    model = PreferenceModel(base, CONFIG)
    message = r"returns logits of shape \(1, 5, 1\)"
    with pytest.raises(ValueError, match=message):
        Policy(model).reference_log_probabilities(collate_sequences([[3]], [[0]]))
    with pytest.raises(ValueError, match=message):
        Policy(model, Sampling(max_new_tokens=2, stop_token_ids=())).sample([[3]], preferences, 1)


# Directions.


def test_a_difference_within_rounding_is_no_sight_of_the_answer(make_llama):
    refuse_seen_answers(make_llama(), 0.1, 0.1)
    for difference in (0.2, torch.nan):
        with pytest.raises(
            ValueError, match="LlamaForCausalLM changes what it predicts at a place with the tokens beh"
        ):
            refuse_seen_answers(make_llama(), difference, 0.1)


def bidirectional():
    yield "bert", transformers.BertLMHeadModel(bert_config())
    yield (
        "xlm",
        transformers.XLMWithLMHeadModel(transformers.XLMConfig(vocab_size=50, emb_dim=16, n_layers=2, n_heads=2)),
    )
    config = transformers.XLNetConfig(vocab_size=50, d_model=16, n_layer=2, n_head=2, d_inner=32)
    yield "xlnet", transformers.XLNetLMHeadModel(config)


@pytest.mark.parametrize("family", ["bert", "xlm", "xlnet"])
def test_a_model_that_sees_the_response_is_refused_at_the_first_use(family):
    torch.manual_seed(0)
    base = dict(bidirectional())[family].eval()
    model = PreferenceModel(base, CONFIG)
    message = f"{type(base).__name__} changes what it predicts at a place with the tokens behind it"
    sequences = collate_sequences([[3]], [[4, 5]])
    generator_state = torch.random.get_rng_state()
    for use in (
        lambda: padding_traits(model),
        lambda: Policy(model).token_log_probabilities(sequences, preferences),
        lambda: Policy(model).reference_log_probabilities(sequences),
        lambda: Policy(model, Sampling(max_new_tokens=2, stop_token_ids=())).sample([[3]], preferences, 1),
        lambda: DPO(NAMES).precompute(model, PAIRS),
        lambda: ParetoTrainer(model, DPO(NAMES), Linear(), train_data=PAIRS, config=TRAINING).train(),
    ):
        with pytest.raises(ValueError, match=message):
            use()
        torch.random.set_rng_state(generator_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["bert", "xlm", "qwen2_moe", "mamba2", "gemma3_text"])
def test_models_that_look_back_only_pass(family, dtype):
    from tiny_models import tiny_model

    padding_traits(PreferenceModel(tiny_model(family).to(dtype), CONFIG))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sight_of_the_answer_is_told_in_half_precision_too(dtype):
    """Where it matters: in a model with large weights, as a trained one has."""
    torch.manual_seed(0)
    base = transformers.BertLMHeadModel(bert_config(initializer_range=0.5)).eval().to(dtype)
    with pytest.raises(ValueError, match="BertLMHeadModel changes what it predicts"):
        padding_traits(PreferenceModel(base, CONFIG))

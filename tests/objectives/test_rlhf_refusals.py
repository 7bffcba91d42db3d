"""RLHF at its doors: settings, rows, prompts and models that cannot be right are refused before the work."""

import pytest
import torch
from rlhf_inputs import PREFERENCES, ROWS, even, length, make_rlhf, updates_of

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.evaluation import reward_front
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import GRPO, PretrainingTerm
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.scalarizers import Linear


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "reinforce"}, "unknown algorithm 'reinforce': choose one of .*rloo"),
        ({"beta": -1.0}, r"beta is -1\.0: it must be ≥ 0"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"samples_per_prompt": 1}, "samples_per_prompt is 1: RLOO needs at least 2"),
        ({"normalization": "batch"}, "unknown normalization 'batch': choose 'running', 'group' or None"),
        ({"truncation_penalty": -1.0}, r"truncation_penalty is -1\.0"),
        ({"sampling": Sampling()}, "without a tokenizer, say what ends a response: .*stop_token_ids"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_rlhf(**options)


@pytest.mark.parametrize(
    "options", [{"beta": "0"}, {"frozen_layers": "no"}, {"pretraining": [{}]}, {"seed": "s"}], ids=str
)
def test_settings_of_another_type_are_named(options):
    with pytest.raises(TypeError, match=rf"{next(iter(options))} is .*: give "):
        make_rlhf(**options)


def test_no_rewards_or_text_without_a_tokenizer():
    with pytest.raises(ValueError, match=r"rewards are \{\}: give a dict"):
        RLHF({}, sampling=Sampling(stop_token_ids=()))
    with pytest.raises(ValueError, match="the rewards read text, so the tokenizer"):
        RLHF({"a": lambda prompts, responses: [0.0]}, sampling=Sampling(stop_token_ids=()))


def test_prompts_that_cannot_be_shared(model):
    rlhf = make_rlhf()
    with pytest.raises(ValueError, match="a batch of 4 rows cannot be shared evenly among 3 preferences"):
        rlhf.updates(model, rlhf.collate(ROWS), torch.tensor([[1.0, 0.0]] * 3))
    rlhf = make_rlhf(algorithm=GRPO(minibatches=3))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"2 prompts.*3 even minibatches"):
        rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)
    assert torch.equal(torch.get_rng_state(), state), "nothing was sampled"


def test_a_plain_model_or_a_missing_critic(model, make_llama):
    rlhf = make_rlhf(algorithm="ppo")
    with pytest.raises(TypeError, match="PreferenceModel"):
        rlhf.updates(make_llama(), rlhf.collate(ROWS), PREFERENCES)
    with pytest.raises(TypeError, match="PreferenceModel"):
        rlhf.prepare_model(make_llama())
    with pytest.raises(ValueError, match="prepare_model"):
        rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)


def test_a_reward_that_fails_is_named_and_nothing_is_trained(model):
    broken = token_reward(lambda prompt_ids, response_ids: [float("nan")] * len(response_ids))
    rlhf = RLHF({"length": length, "even": broken}, sampling=Sampling(max_new_tokens=2, stop_token_ids=()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = TrainerConfig(steps=2, batch_size=4, preferences_per_step=2, progress=False)
    trainer = ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    with pytest.raises((RuntimeError, ValueError), match="even"):
        trainer.train()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_reward_front_takes_the_settings(model):
    """The whole of it is in tests/llm/test_evaluation.py."""
    front = reward_front(model, make_rlhf().settings, ROWS, PREFERENCES, metadata={"seed": 3})
    assert front.maximize
    assert front.names == ("length", "even")


def test_prompts_in_place_of_samples_are_refused(model):
    rlhf = make_rlhf()
    with pytest.raises(TypeError, match=r"PromptBatch, but the losses are of sampled responses.*updates"):
        rlhf.losses(model, rlhf.collate(ROWS), PREFERENCES)


# What is refused when the trainer is made, and dropout.


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([{"prompt": "A secret."}], ValueError, "row 0 has prompt, but no prompt_ids: use tokenize_prompts"),
        (iter(ROWS), TypeError, "train_data is a list_iterator, whose rows cannot be had by their number"),
    ],
    ids=["texts", "iterator"],
)
def test_data_that_are_no_prompts_are_refused_when_the_trainer_is_made(model, data, error, message):
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(error, match=message):
        ParetoTrainer(model, make_rlhf(), Linear(), train_data=data, config=config)


def test_rewards_in_another_order_than_the_models_objectives_are_refused(model):
    rewards = {"even": even, "length": length}
    rlhf = RLHF(rewards, sampling=Sampling(max_new_tokens=2, stop_token_ids=(2,)))
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(ValueError, match=r"RLHF has .*\(even, length\), the model \(length, even\): the same in"):
        ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    with pytest.raises(ValueError, match=r"the set of rewards has .*\(even, length\), the model \(length, even\)"):
        rlhf.mean_losses(model, ROWS, PREFERENCES[:1], 2)


def test_a_trainer_turns_dropout_off(make_gpt2):
    model = PreferenceModel(make_gpt2(resid_pdrop=0.3, attn_pdrop=0.3), SVDLoRAConfig(objectives=("length", "even")))
    make_rlhf().prepare_model(model)
    probabilities = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    assert probabilities
    assert set(probabilities) == {0.0}


def test_prompts_too_long_for_the_model_are_refused_everywhere(make_gpt2):
    """With as many tokens more as may be sampled; told by the data's row, so before any batch is sampled."""
    rows, objectives = [{"prompt_ids": [50] * length} for length in (2, 6)], ("length", "even")
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=2, progress=False, cpu=True)

    def model_of(positions: int) -> PreferenceModel:
        return PreferenceModel(make_gpt2(n_positions=positions), SVDLoRAConfig(objectives=objectives))

    rlhf = make_rlhf()
    rlhf.check_data(model_of(10), rows, "float32")
    model = model_of(9)
    for use in (
        lambda: ParetoTrainer(model, rlhf, Linear(), train_data=rows, config=config),
        lambda: rlhf.mean_losses(model, rows, PREFERENCES[:1], 1),
        lambda: reward_front(model, rlhf.settings, rows, PREFERENCES[:1], 1),
        lambda: rlhf.updates(model, rlhf.collate(rows), PREFERENCES[:1]),
    ):
        with pytest.raises(
            ValueError, match=r"prompt 1 has 6 tokens, and with max_new_tokens = 4 up to 10, but GPT2LM"
        ):
            use()


def test_rows_of_the_pretraining_term_that_are_too_long_are_refused(make_gpt2):
    model = PreferenceModel(make_gpt2(n_positions=9), SVDLoRAConfig(objectives=("length", "even")))
    data = [{"prompt_ids": [5], "response_ids": [6] * length} for length in (8, 9)]
    make_rlhf(pretraining=PretrainingTerm(data[:1])).check_data(model, ROWS, "float32")
    with pytest.raises(ValueError, match="row of the pre-training data 1 has 10 tokens, but GPT2LMHeadModel has 9"):
        make_rlhf(pretraining=PretrainingTerm(data)).check_data(model, ROWS, "float32")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([7, 100], "prompt 1 has the token 100 in prompt_ids, but LlamaForCausalLM has embeddings for 100 tokens"),
        ([1.9], "prompt 1 has a float in prompt_ids"),
        ([], "prompt 1 has no token in prompt_ids"),
    ],
    ids=str,
)
def test_prompts_of_other_tokens_than_the_models_are_refused_everywhere(ids, message, model):
    rows, rlhf = [{"prompt_ids": [50]}, {"prompt_ids": ids}], make_rlhf()
    config = TrainerConfig(steps=1, batch_size=2, preferences_per_step=2, progress=False, cpu=True)
    for use in (
        lambda: ParetoTrainer(model, rlhf, Linear(), train_data=rows, config=config),
        lambda: rlhf.mean_losses(model, rows, PREFERENCES[:1], 1),
        lambda: reward_front(model, rlhf.settings, rows, PREFERENCES[:1], 1),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    if ids == [1.9]:
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            rlhf.collate(rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt_ids": [5], "response_ids": [100]},
            "row of the pre-training data 1 has the token 100 in response_ids",
        ),
        ({"prompt_ids": [], "response_ids": [5]}, "row of the pre-training data 1 has no token in prompt_ids"),
        ({"prompt_ids": [5]}, r"row 1 has prompt_ids, but no response_ids: use plain_text_rows\(tokenizer, texts\)"),
    ],
    ids=str,
)
def test_rows_of_the_pretraining_term_are_of_the_models_tokens(row, message, model):
    rows = [{"prompt_ids": [5], "response_ids": [6]}, row]
    with pytest.raises(ValueError, match=message):
        make_rlhf(pretraining=PretrainingTerm(rows)).check_data(model, ROWS, "float32")


def test_stop_tokens_that_the_model_lacks_are_refused_when_the_trainer_is_made(model):
    """As a tokenizer has them to which special tokens were added, but not to the model."""
    rlhf = make_rlhf(sampling=Sampling(max_new_tokens=4, stop_token_ids=(100,)))
    config = TrainerConfig(steps=1, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(
        ValueError, match=r"stop_token_ids is \(100,\), but LlamaForCausalLM predicts the tokens 0 … 99"
    ):
        ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)


@pytest.mark.parametrize(("data", "message"), [(None, "train_data is None, but RLHF"), ([], "train_data has no row")])
def test_a_trainer_needs_prompts(data, message, model):
    config = TrainerConfig(steps=1, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(ValueError, match=message):
        ParetoTrainer(model, make_rlhf(), Linear(), train_data=data, config=config)


def test_frozen_layers_need_frozen_blocks_and_nothing_is_changed_before(make_gpt2):
    base = make_gpt2(resid_pdrop=0.3)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("length", "even")))
    with pytest.raises(ValueError, match="frozen_layers is True, but the model's first block is adapted"):
        make_rlhf(frozen_layers=True, algorithm="ppo").prepare_model(model)
    assert not len(model.companions)
    assert any(part.p for part in model.modules() if isinstance(part, torch.nn.Dropout))


def test_a_model_that_samples_from_another_distribution_is_refused_at_the_first_rollout(model):
    """As one that counts positions in another way when it generates."""

    def shift(_, args, kwargs, output):
        if kwargs.get("use_cache"):
            output.logits = output.logits.roll(1, dims=-1)

    handle = model.base_model.register_forward_hook(shift, with_kwargs=True)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM samples from another distribution than its forward gives"):
        updates_of(make_rlhf(), model)
    handle.remove()
    rlhf = make_rlhf()
    updates_of(rlhf, model)
    model.base_model.register_forward_hook(shift, with_kwargs=True)
    updates_of(rlhf, model)  # Asked once.

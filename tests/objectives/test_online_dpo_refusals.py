"""Online DPO at its doors: what is refused before anything is sampled, and what it says of itself."""

import math
from inspect import signature

import pytest
import torch
from _counted_rewards import PREFERENCES, ROWS, STOPS, even, length

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.llm.policy import Sampling
from mopref.llm.rewards import token_reward
from mopref.objectives import OnlineDPO
from mopref.scalarizers import Linear

SAMPLING = Sampling(max_new_tokens=4, stop_token_ids=STOPS)


def make(**options) -> OnlineDPO:
    return OnlineDPO(**{"rewards": {"length": length, "even": even}, "sampling": SAMPLING, **options})


def trainer_of(model, objective, data=ROWS) -> ParetoTrainer:
    config = TrainerConfig(steps=1, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    return ParetoTrainer(model, objective, Linear(), train_data=data, config=config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta is 0\.0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"beta": math.inf}, "beta is inf"),
        ({"loss": "cubic"}, "unknown DPO loss 'cubic': choose one of sigmoid, ipo, hinge, robust"),
        ({"loss": "robust", "label_smoothing": 0.5}, r"label_smoothing is 0\.5"),
        ({"label_smoothing": 0.1}, "label_smoothing belongs to the robust loss, not to 'sigmoid'"),
        ({"truncation_penalty": -1.0}, r"truncation_penalty is -1\.0"),
        ({"sampling": Sampling()}, "without a tokenizer, say what ends a response: .*stop_token_ids"),
        ({"rewards": {}}, r"rewards are \{\}: give a dict"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "options",
    [{"beta": "0"}, {"seed": "s"}, {"truncation_penalty": "no"}, {"loss": 3}, {"sampling": {"max_new_tokens": 3}}],
    ids=str,
)
def test_values_of_another_type_are_refused(options):
    with pytest.raises(TypeError, match=f"{next(iter(options))} is "):
        make(**options)


def test_repr_tells_the_options():
    """All but the tokenizer, and the rewards in the order of a preference."""
    text = repr(make(beta=0.2, loss="robust", label_smoothing=0.3, truncation_penalty=0.5, seed=3))
    assert text.startswith("OnlineDPO(rewards={'length': length, 'even': even}, ")
    assert all(f"{option}=" in text for option in signature(OnlineDPO).parameters if option != "tokenizer")
    for option in ("beta=0.2", "loss='robust'", "label_smoothing=0.3", "truncation_penalty=0.5", "seed=3"):
        assert option in text


def test_prompts_that_cannot_be_shared(model):
    objective, state = make(), torch.get_rng_state()
    with pytest.raises(ValueError, match="a batch of 4 rows cannot be shared evenly among 3 preferences"):
        objective.updates(model, objective.collate(ROWS), torch.tensor([[1.0, 0.0]] * 3))
    assert torch.equal(torch.get_rng_state(), state), "nothing was sampled"


def test_prompts_in_place_of_pairs_are_refused(model):
    objective = make()
    with pytest.raises(TypeError, match=r"PromptBatch.*updates"):
        objective.losses(model, objective.collate(ROWS), PREFERENCES)


def test_a_plain_model_is_refused(make_llama):
    objective = make()
    with pytest.raises(TypeError, match="PreferenceModel"):
        objective.updates(make_llama(), objective.collate(ROWS), PREFERENCES)


def test_data_that_are_no_prompts_are_refused(model):
    with pytest.raises(ValueError, match="row 0 has prompt, but no prompt_ids: use tokenize_prompts"):
        trainer_of(model, make(), [{"prompt": "A secret."}] * 4)
    for data in (None, []):
        with pytest.raises(ValueError, match="OnlineDPO has nothing to evaluate on"):
            make().mean_losses(model, data, PREFERENCES, batch_size=3)


@pytest.mark.parametrize(("data", "message"), [(None, "train_data is None, but OnlineDPO"), ([], "train_data has no")])
def test_a_trainer_needs_prompts(data, message, model):
    with pytest.raises(ValueError, match=message):
        trainer_of(model, make(), data)


def test_rewards_in_another_order_than_the_models_objectives_are_refused(model):
    objective = make(rewards={"even": even, "length": length})
    with pytest.raises(ValueError, match=r"OnlineDPO has .*\(even, length\), the model \(length, even\)"):
        trainer_of(model, objective)
    with pytest.raises(ValueError, match=r"\(even, length\), the model \(length, even\)"):
        objective.mean_losses(model, ROWS, PREFERENCES[:1], 2)


def test_prompts_of_other_tokens_or_too_long_are_refused_before_anything_is_sampled(make_gpt2):
    objective = make()
    model = PreferenceModel(make_gpt2(n_positions=9), SVDLoRAConfig(objectives=("length", "even")))
    state = torch.get_rng_state()
    for rows, message in (
        (
            [{"prompt_ids": [50] * count} for count in (2, 6)],
            "prompt 1 has 6 tokens, and with max_new_tokens = 4 up to",
        ),
        ([{"prompt_ids": [50]}, {"prompt_ids": [7, 100]}], "prompt 1 has the token 100 in prompt_ids"),
    ):
        for use in (
            lambda rows=rows: trainer_of(model, objective, rows * 2),
            lambda rows=rows: objective.mean_losses(model, rows, PREFERENCES[:1], 1),
        ):
            with pytest.raises(ValueError, match=message):
                use()
    with pytest.raises(ValueError, match="with max_new_tokens = 4"):
        objective.updates(model, objective.collate([{"prompt_ids": [50] * 6}]), PREFERENCES[:1])
    assert torch.equal(torch.get_rng_state(), state)


def test_stop_tokens_that_the_model_lacks_are_refused(model):
    objective = make(sampling=Sampling(max_new_tokens=4, stop_token_ids=(100,)))
    with pytest.raises(
        ValueError, match=r"stop_token_ids is \(100,\), but LlamaForCausalLM predicts the tokens 0 … 99"
    ):
        trainer_of(model, objective)


def test_a_reward_that_fails_is_named_and_nothing_is_trained(model):
    broken = token_reward(lambda prompt_ids, response_ids: [math.nan] * len(response_ids))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((RuntimeError, ValueError), match="even"):
        trainer_of(model, make(rewards={"length": length, "even": broken})).train()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_trainer_turns_dropout_off(make_gpt2):
    model = PreferenceModel(make_gpt2(resid_pdrop=0.3, attn_pdrop=0.3), SVDLoRAConfig(objectives=("length", "even")))
    make().prepare_model(model)
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}


def test_a_model_that_samples_from_another_distribution_is_refused_at_the_first_pairs(model):
    """As one that counts positions in another way when it generates."""

    def shift(_, args, kwargs, output):
        if kwargs.get("use_cache"):
            output.logits = output.logits.roll(1, dims=-1)

    def pairs_of(objective):
        torch.manual_seed(0)
        return objective.updates(model, objective.collate(ROWS), PREFERENCES)

    handle, refused = model.base_model.register_forward_hook(shift, with_kwargs=True), make()
    with pytest.raises(ValueError, match=r"LlamaForCausalLM samples from another distribution than its forward gives"):
        pairs_of(refused)
    assert refused.history == []
    handle.remove()
    objective = make()
    pairs_of(objective)
    model.base_model.register_forward_hook(shift, with_kwargs=True)
    pairs_of(objective)  # Asked once.

"""Wherever a user gives λ and the objectives have names, it may be given by name, in any order."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mopref import (
    ConcatenationModel,
    DecisionModel,
    FiLMModel,
    Front,
    HypernetworkModel,
    HypervolumeCallback,
    ParetoSetModel,
    ParetoTrainer,
    PreferenceModel,
    Problem,
    SVDLoRAConfig,
    TrainerConfig,
)
from mopref.baselines import MODPO, Budget, FixedSampler, MethodPolicy
from mopref.known_fronts import RewardBandit, global_search, scalarizer_optimum, tiny_llama
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.evaluation import (
    Figure,
    answer_front,
    front_of_figures,
    loss_front,
    preference_front,
    reward_front,
    sample_answers,
)
from mopref.llm.policy import Policy, Sampling, answer_prompts, sample_responses
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.llm.rewards import token_reward
from mopref.objectives import DPO, KTO, RLHF, OnlineDPO, Quadratic
from mopref.preferences import validate_preferences
from mopref.scalarizers import Linear
from mopref.training.evaluation_callback import point_label

NAMES = ("helpful", "harmless")
ROWS = [[0.7, 0.3], [0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]
FACES = (
    "mopref",
    "mopref.baselines",
    "mopref.conditioning",
    "mopref.front",
    "mopref.known_fronts",
    "mopref.llm.evaluation",
    "mopref.llm.pairs",
    "mopref.llm.policy",
    "mopref.llm.policy_gradient",
    "mopref.objectives",
    "mopref.plotting",
    "mopref.preferences",
    "mopref.samplers",
    "mopref.training",
)


class Tools(NamedTuple):
    """What the calls are made with."""

    folder: Path
    language_model: PreferenceModel
    tokenizer: Any
    rows: list[dict[str, Any]]


def network() -> nn.Module:
    """A small network, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))


def problem() -> Problem:
    """Two bowls."""
    return Quadratic([[0.0, 0.0], [1.0, 1.0]], names=NAMES)


def pareto_model() -> ParetoSetModel:
    """A model for the two bowls."""
    return ParetoSetModel.for_problem(problem(), hidden=(4,))


def conditioned(kind: type) -> Callable[[Tools, Any], Any]:
    """A call of the kind's model, which has moved so that λ counts."""
    inputs = 4 if kind is ConcatenationModel else 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 2)), NAMES)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return lambda tools, λ: model(torch.ones(_count(λ), 2), preferences=λ)


def decided(tools: Tools, λ: Any) -> Tensor:
    return DecisionModel(FiLMModel(network(), NAMES), 2, anchor=[1.0, 2.0])(λ)


def trainer(*callbacks: Any) -> ParetoTrainer:
    config = TrainerConfig(steps=1, progress=False, cpu=True)
    return ParetoTrainer(pareto_model(), problem(), Linear(), config=config, callbacks=callbacks)


def watched(tools: Tools, λ: Any) -> Any:
    callback = HypervolumeCallback(λ, [9.0, 9.0])
    with torch.enable_grad():
        trainer(callback).train()
    return [record["hypervolume"] for record in callback.records]


@token_reward
def length(prompt_ids, response_ids):
    return [len(ids) for ids in response_ids]


@token_reward
def parity(prompt_ids, response_ids):
    return [sum(ids) % 2 for ids in response_ids]


REWARDS = dict(zip(NAMES, (length, parity), strict=True))
SAMPLING = Sampling(max_new_tokens=3, stop_token_ids=())
SETTINGS = RolloutSettings(REWARDS, SAMPLING, samples_per_prompt=1)


def prompts(tools: Tools) -> list[list[int]]:
    return [row["prompt_ids"] for row in tools.rows]


def sequences(tools: Tools) -> Any:
    return collate_sequences(prompts(tools), [row["response_0_ids"] for row in tools.rows])


def sampled(tools: Tools, λ: Any) -> list[list[int]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [response.ids for response in sample_responses(tools.language_model, prompts(tools), λ, SAMPLING)]


def sampled_by_policy(tools: Tools, λ: Any) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Policy(tools.language_model, SAMPLING).sample(prompts(tools), λ, 1).outputs.log_probabilities


def exported(tools: Tools, λ: Any) -> Any:
    tools.language_model.export_lora(tools.folder, λ)
    return (tools.folder / "adapter_model.safetensors").read_bytes()


def generated(tools: Tools, λ: Any) -> Tensor:
    ids = torch.tensor([[5, 6]] * _count(λ))
    return tools.language_model.generate(ids, preferences=λ, max_new_tokens=3, do_sample=False, eos_token_id=None)


def decoded(tools: Tools, λ: Any) -> Tensor:
    ids = torch.tensor([[5, 6]] * _count(λ))
    with tools.language_model.decoding(λ, len(ids)) as base, torch.no_grad():
        logits: Tensor = base(ids).logits
    return logits


def answered(tools: Tools, λ: Any) -> Any:
    return sample_answers(
        tools.language_model, tools.tokenizer, tools.rows, λ, Sampling(max_new_tokens=2, stop_token_ids=())
    ).texts


def figured(tools: Tools, λ: Any) -> Any:
    values = torch.arange(3 * _count(λ)).view(-1, 3)
    return front_of_figures({name: Figure(values) for name in NAMES}, {}, list("xyz"), λ).preferences


def of_objective(objective: Callable[[], Any], method: str) -> Callable[[Tools, Any], Any]:
    """A method of an objective on the rows of pairs."""
    return lambda tools, λ: getattr(objective(), method)(tools.language_model, rows_for(tools, objective), λ, 4)


def rows_for(tools: Tools, objective: Callable[[], Any]) -> list[dict[str, Any]]:
    """The rows as an objective takes them: a response alone for KTO."""
    if objective is not kto:
        return tools.rows
    return [
        {
            "prompt_ids": row["prompt_ids"],
            "response_ids": row["response_0_ids"],
            "mismatched_response_ids": row["response_1_ids"],
            "labels": row["labels"],
        }
        for row in tools.rows
    ]


def dpo() -> DPO:
    return DPO(NAMES)


def kto() -> KTO:
    return KTO(NAMES)


def rlhf() -> RLHF:
    return RLHF(REWARDS, sampling=SAMPLING)


def online_dpo() -> OnlineDPO:
    return OnlineDPO(REWARDS, sampling=SAMPLING)


def logits(tools: Tools, λ: Any) -> Tensor:
    return tools.language_model(torch.tensor([[5, 6]] * _count(λ)), preferences=λ).logits


def of_front(tools: Tools, λ: Any) -> Any:
    return Front(λ if _count(λ) > 1 or isinstance(λ, dict) else [λ], np.ones((_count(λ), 2)), NAMES).preferences


def log_probabilities(method: str) -> Callable[[Tools, Any], Any]:
    return lambda tools, λ: getattr(Policy(tools.language_model), method)(sequences(tools), λ)


def bandit() -> RewardBandit:
    base = tiny_llama(vocabulary=6, hidden=8)
    return RewardBandit(base, [[3, 4]], torch.eye(6)[None, :, :2], names=NAMES)


def bandit_model() -> PreferenceModel:
    return PreferenceModel(tiny_llama(vocabulary=6, hidden=8), SVDLoRAConfig(NAMES, rank=2)).eval()


# A call for each; those in ONE take a single preference, all others also one for each of four rows.
CALLS: dict[str, Callable[[Tools, Any], Any]] = {
    "ConcatenationModel.forward": conditioned(ConcatenationModel),
    "ConditionedModel.checked": lambda tools, λ: FiLMModel(network(), NAMES).checked(λ, torch.ones(1)),
    "DecisionModel.forward": decided,
    "FiLMModel.forward": conditioned(FiLMModel),
    "Front.__init__": of_front,
    "FixedSampler.__init__": lambda tools, λ: FixedSampler(NAMES, λ).preference,
    "HypernetworkModel.forward": conditioned(HypernetworkModel),
    "HypernetworkModel.weights": lambda tools, λ: HypernetworkModel(network(), NAMES).weights(λ)["0.bias"],
    "HypervolumeCallback.__init__": watched,
    "KTO.all_log_ratios": of_objective(kto, "all_log_ratios"),
    "MODPO.__init__": lambda tools, λ: MODPO(NAMES, λ).preference,
    "MethodPolicy.at": lambda tools, λ: MethodPolicy("one", tools.language_model, Budget()).at(λ).preference,
    "KTO.mean_losses": of_objective(kto, "mean_losses"),
    "Objective.mean_losses": lambda tools, λ: problem().mean_losses(pareto_model(), None, λ, 4),
    "Objective.preference_rows": lambda tools, λ: problem().preference_rows(λ),
    "LanguageBandit.hypervolume_ratio": lambda tools, λ: torch.tensor(
        bandit().hypervolume_ratio(torch.full((_count(λ), 2), -0.6), λ)
    ),
    "LanguageBandit.log_probabilities": lambda tools, λ: bandit().log_probabilities(bandit_model(), λ),
    "LanguageBandit.optimum": lambda tools, λ: bandit().optimum(λ).values,
    "LanguageBandit.regret": lambda tools, λ: bandit().regret(torch.zeros(_count(λ), 2), λ),
    "OnlineDPO.mean_losses": of_objective(online_dpo, "mean_losses"),
    "PairObjective.all_scores": of_objective(dpo, "all_scores"),
    "ParetoTrainer.front": lambda tools, λ: trainer().front(λ).values,
    "Policy.sample": sampled_by_policy,
    "Policy.sequence_log_probabilities": log_probabilities("sequence_log_probabilities"),
    "Policy.token_log_probabilities": log_probabilities("token_log_probabilities"),
    "Policy.token_outputs": lambda tools, λ: log_probabilities("token_outputs")(tools, λ).log_probabilities,
    "PreferenceModel.decoding": decoded,
    "PreferenceModel.export_lora": exported,
    "PreferenceModel.forward": logits,
    "PreferenceModel.generate": generated,
    "PreferenceModel.merge": lambda tools, λ: logits_of(tools.language_model.merge(λ)),
    "Quadratic.optimum": lambda tools, λ: problem().optimum(λ),
    "RLHF.mean_losses": of_objective(rlhf, "mean_losses"),
    "RowObjective.at_every_preference": lambda tools, λ: dpo().at_every_preference(
        dpo().scores, 2, tools.language_model, tools.rows, λ, 4
    ),
    "RowObjective.mean_losses": of_objective(dpo, "mean_losses"),
    "answer_prompts": lambda tools, λ: [
        answer.text for answer in answer_prompts(tools.language_model, tools.tokenizer, ["red cat"] * _count(λ), λ, 2)
    ],
    "global_search": lambda tools, λ: global_search(problem(), Linear(), λ, generations=2).x,
    "point_label": lambda tools, λ: point_label(NAMES, λ),
    "answer_front": lambda tools, λ: answer_front(tools.language_model, kto(), rows_for(tools, kto) * 2, λ).values,
    "front_of_figures": figured,
    "loss_front": lambda tools, λ: loss_front(tools.language_model, dpo(), tools.rows, λ).values,
    "preference_front": lambda tools, λ: preference_front(tools.language_model, dpo(), tools.rows, λ).values,
    "reward_front": lambda tools, λ: reward_front(tools.language_model, SETTINGS, tools.rows, λ).values,
    "sample_answers": answered,
    "sample_responses": sampled,
    "scalarizer_optimum": lambda tools, λ: scalarizer_optimum(problem(), Linear(), λ, num_points=20).values,
    "validate_preferences": lambda tools, λ: validate_preferences(λ, NAMES),
}
ONE = (
    "FixedSampler.__init__",
    "MODPO.__init__",
    "MethodPolicy.at",
    "PreferenceModel.export_lora",
    "PreferenceModel.merge",
    "point_label",
)
MANY = ("global_search",)
# It knows the number of its objectives only, and calls them f1 … fm.
NUMBERED = ("ParetoSetModel.forward",)


def logits_of(model: nn.Module) -> Tensor:
    return model(torch.tensor([[5, 6]])).logits


def _count(λ: Any) -> int:
    return len(λ) if isinstance(λ, list) and not isinstance(λ[0], float) else 1


@pytest.fixture(scope="module")
def tools(tmp_path_factory, make_llama, make_pairs, randomise):
    from _tiny_runs import save_model
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("names")
    tokenizer = AutoTokenizer.from_pretrained(save_model(folder / "tiny", make_llama))
    base = make_llama(vocab_size=max(100, len(tokenizer)), max_position_embeddings=256)
    model = randomise(PreferenceModel(base, SVDLoRAConfig(NAMES, rank=2, preference_rank=2))).eval()
    return Tools(folder / "lora", model, tokenizer, make_pairs([[0, 1], [1, 0], [0, 0], [1, 1]]))


def by_name(row: list[float], names: tuple[str, ...] = NAMES) -> dict[str, float]:
    """In the other order than that of the objectives."""
    return dict(reversed([*zip(names, row, strict=True)]))


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else np.array_equal(one, other)


def calls_with(left_out: tuple[str, ...]) -> list[str]:
    return [name for name in CALLS if name not in left_out]


@pytest.mark.parametrize("name", calls_with(MANY))
def test_a_single_preference(name, tools):
    call = CALLS[name]
    with torch.no_grad():
        assert same(call(tools, by_name(ROWS[0])), call(tools, ROWS[0]))
        with pytest.raises(ValueError, match="harmless"):
            call(tools, {"helpful": 1.0})


@pytest.mark.parametrize("name", calls_with(ONE))
def test_a_list_of_them(name, tools):
    call, rows = CALLS[name], [by_name(row) for row in ROWS]
    with torch.no_grad():
        assert same(call(tools, rows), call(tools, ROWS))
        with pytest.raises(ValueError, match="harmless"):
            call(tools, [rows[0], rows[1], rows[2], {"helpful": 1.0}])


def test_a_model_that_knows_only_their_number():
    model, names = pareto_model(), ("f1", "f2")
    assert torch.equal(model(by_name(ROWS[0], names)), model(torch.tensor(ROWS[:1])))
    assert torch.equal(model([by_name(row, names) for row in ROWS]), model(torch.tensor(ROWS)))
    assert torch.equal(model(ROWS), model(torch.tensor(ROWS)))
    with pytest.raises(ValueError, match="f1"):
        model(by_name(ROWS[0]))


def test_a_network_without_names_takes_none():
    class Plain(nn.Module):
        def forward(self, x: Tensor, preferences: Tensor) -> Tensor:
            return x[:, :1] * preferences

    model = DecisionModel(Plain(), 2, anchor=[1.0])
    assert torch.equal(model(ROWS), model(torch.tensor(ROWS)))
    assert torch.equal(model(ROWS[0]), model(torch.tensor(ROWS[:1])))
    with pytest.raises(ValueError, match="preferences"):
        model(by_name(ROWS[0]))


def taking_preferences() -> Iterator[str]:
    """Every public function and method that takes λ from a user; steps of a training take tensors only."""
    for face in map(importlib.import_module, FACES):
        public = [getattr(face, name) for name in face.__all__]
        for part in public:
            owners = [kind for kind in part.__mro__ if kind.__module__.startswith("mopref")] if _is_class(part) else []
            members = {f"{kind.__name__}.{name}": member for kind in owners for name, member in vars(kind).items()}
            for name, member in members.items() if owners else {getattr(part, "__name__", ""): part}.items():
                function = getattr(member, "__func__", member)
                if inspect.isfunction(function) and _is_public(name) and _takes_any(function):
                    yield name


def _is_class(part: Any) -> bool:
    return inspect.isclass(part)


def _is_public(name: str) -> bool:
    last = name.split(".")[-1]
    return not last.startswith("_") or last in ("__init__", "__call__")


def _takes_any(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters
    given = [parameters[name] for name in ("preferences", "preference") if name in parameters]
    return any(parameter.annotation is not Tensor for parameter in given)


def test_none_is_forgotten():
    found = {*taking_preferences()}
    assert "PreferenceModel.merge" in found, "the test would be vacuous"
    assert found <= {*CALLS, *NUMBERED}


def test_names_are_looked_for_among_any_number_of_objectives_without_looking_at_each():
    with pytest.raises(ValueError, match="a weight for harmless, which is no objective"):
        validate_preferences({"harmless": 0.75, "helpful": 0.25}, 10**14)
    for name in (
        "objective 3",
        "objective 03",
        "objective ²",
        "objective -1",
        "objective ",
        "objective 1" + "0" * 5000,
    ):
        with pytest.raises(ValueError, match=f"a weight for {name[:20]}"):
            validate_preferences({"objective 0": 0.25, name: 0.75}, 3)
    named = validate_preferences({"objective 1": 0.75, "objective 0": 0.25}, 2)
    assert named.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("weight", [10**400, -(10**400)])
def test_a_weight_beyond_any_number_is_refused_as_an_infinite_one_is(weight):
    with pytest.raises(ValueError, match=r"weight -?inf for helpful, which is not finite"):
        validate_preferences({"harmless": 0.75, "helpful": weight}, NAMES)


@pytest.mark.parametrize("name", [None, np.ones(2), [["deep"]], 3])
def test_objectives_are_named_by_texts(name):
    with pytest.raises(TypeError, match=r"objectives\[1\] is of type .*: give a text"):
        validate_preferences({"harmless": 0.75, "helpful": 0.25}, ("helpful", name))

"""Rewards, policies, policy gradients, objectives on text and their evaluation."""

from typing import Any

import torch

from benchmarks.bad_input import tiny, tiny_runs
from benchmarks.bad_input.target import Target, options_of, without
from mopref import objectives
from mopref.llm import evaluation, pairs, policy, policy_gradient, rewards
from mopref.llm.policy_gradient.rollout import RolloutSettings

__all__ = ["TARGETS"]

_REWARDS = "rewards, policy gradients"
_POLICY = "policies"
_OBJECTIVES = "objectives on text"
_EVALUATION = "evaluation"

_HALF = torch.tensor([[0.25, 0.75], [0.5, 0.5]])


def _lengths(prompts: Any, responses: Any) -> Any:
    return [float(len(text)) for text in responses]


def _rewards() -> dict[str, Any]:
    return {"helpful": _lengths, "harmless": rewards.Conciseness(3.0)}


def _embedded(texts: Any, batch_size: Any, progress: Any, **options: Any) -> Any:
    return rewards.Embedder(**options).embed(texts, batch_size, progress)


def _classified(prompts: Any, responses: Any, **options: Any) -> Any:
    return rewards.ClassifierReward(**options)(prompts, responses)


def _classifier() -> Any:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=13, num_labels=1, pad_token_id=0, **sizes)).eval()


def _rows(kind: Any) -> Any:
    # KTO's reference point is estimated from four answers at least.
    return tiny.rows() * 2 if kind is objectives.KTO else tiny.rows()


def _called(kind: Any) -> Any:
    return lambda prompts, responses, **options: kind(**options)(prompts, responses)


def _groups() -> policy_gradient.RolloutGroups:
    mask = torch.ones(1, 2, 2, 3, dtype=torch.bool)
    values = torch.zeros(1, 2, 2, 3, 2, dtype=torch.float64)
    scaled = torch.arange(8, dtype=torch.float64).reshape(1, 2, 2, 2)
    return policy_gradient.RolloutGroups(scaled, torch.zeros(1, 2, 2, 3, dtype=torch.float64), mask, values)


def _advantages(kind: Any) -> Any:
    def call(beta: Any, normalize: Any, **options: Any) -> Any:
        made = kind(**options)
        made.check_samples(2)
        return made.advantages(_groups(), 0.1, True)

    return call


def _on_rows(kind: Any) -> Any:
    """An objective on data: rows checked, made a batch, and losses of it."""

    def call(data: Any, preferences: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        model = tiny.adapted()
        made.labelled(data)
        made.check_data(model, data, "float32")
        batch = made.collate(list(data))
        return made.losses(model, batch, preferences)

    return call


def _on_prompts(kind: Any) -> Any:
    def call(data: Any, preferences: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        model = tiny.adapted()
        made.prepare_model(model)
        made.check_data(model, data, "float32")
        # As in a training step: what was sampled is what the losses are of.
        (update, *_) = made.updates(model, made.collate(list(data)), preferences)
        return made.losses(model, update.batch, update.preferences)

    return call


def _sampling() -> policy.Sampling:
    return policy.Sampling(max_new_tokens=2, stop_token_ids=(2,))


def _policy_method(name: str) -> Any:
    def call(**options: Any) -> Any:
        return getattr(policy.Policy(tiny.adapted(), _sampling()), name)(**options)

    return call


def _sampled(model: Any = None, **options: Any) -> Any:
    return policy.sample_responses(tiny.adapted() if model is None else model, **options)


_ALGORITHMS = (policy_gradient.GRPO, policy_gradient.PPO, policy_gradient.RLOO)
_ON_ROWS = (objectives.DPO, objectives.KTO, objectives.ORPO, objectives.SimPO, objectives.SFT)
_ON_PROMPTS = (objectives.RLHF, objectives.OnlineDPO)
_TEXTS: dict[str, Any] = {"prompts": ["red cat", "blue"], "responses": ["cat", "dog eats"]}


def _accuracies() -> dict[str, Any]:
    return {"margins": torch.tensor([[0.5, -1.0]]), "labels": torch.tensor([[0, 1], [1, -1]])}


def _front(function: Any, kind: Any, data: Any) -> dict[str, Any]:
    options = options_of(function, model=tiny.adapted(), objective=kind(tiny.NAMES), data=data, preferences=_HALF)
    return {**options, "mixed_precision": None}


def _figures() -> dict[str, Any]:
    return {"helpful": evaluation.Figure(torch.ones(2, 3)), "harmless": evaluation.Figure(torch.zeros(2, 3))}


TARGETS = [
    Target(
        "mopref.llm.rewards.compute_rewards",
        _REWARDS,
        rewards.compute_rewards,
        lambda: {"rewards": _rewards(), **_TEXTS, "prompt_ids": [[1], [2]], "response_ids": [[1], [2, 3]]},
        weight=3,
        covers=("mopref.llm.rewards.Reward", "mopref.llm.rewards.RewardError"),
    ),
    Target("mopref.llm.rewards.describe_rewards", _REWARDS, rewards.describe_rewards, lambda: {"rewards": _rewards()}),
    Target(
        "mopref.llm.rewards.token_reward",
        _REWARDS,
        rewards.token_reward,
        lambda: {"function": lambda prompts, responses: [0.0]},
    ),
    Target("mopref.llm.rewards.REWARDS", _REWARDS, rewards.REWARDS.find, lambda: {"name": "conciseness"}, weight=0.3),
    Target(
        "mopref.llm.rewards.Conciseness",
        _REWARDS,
        _called(rewards.Conciseness),
        lambda: {"target_length": 3.0, "maximum": 1.0, **_TEXTS},
        weight=2,
    ),
    *(
        Target(
            f"mopref.llm.rewards.{kind.__name__}",
            _REWARDS,
            _called(kind),
            lambda: dict(_TEXTS),
            weight=0.5,
            refused_alone=without(package),
        )
        for kind, package in (
            (rewards.ProfanityFree, "profanity_check"),
            (rewards.VaderSentiment, "vaderSentiment"),
        )
    ),
    Target(
        "mopref.llm.rewards.ClassifierReward",
        _REWARDS,
        _classified,
        lambda: options_of(rewards.ClassifierReward, model=_classifier(), tokenizer=tiny.tokenizer(), sign=1, **_TEXTS),
        weight=0.5,
    ),
    Target(
        "mopref.llm.rewards.Embedder",
        _REWARDS,
        _embedded,
        lambda: {"folder": "model", "device": "cpu", "texts": ["cat", "dog eats"], "batch_size": 2, "progress": False},
        weight=0.5,
        stage=tiny_runs.stage_model,
    ),
    Target(
        "mopref.llm.rewards.shared_embedder",
        _REWARDS,
        rewards.shared_embedder,
        lambda: {"folder": "model"},
        weight=0.5,
        stage=tiny_runs.stage_model,
    ),
    Target(
        "mopref.llm.rewards.Relevance",
        _REWARDS,
        _called(rewards.Relevance),
        lambda: {"embedder": tiny_runs.embedder(), **_TEXTS},
    ),
    Target(
        "mopref.llm.rewards.Anchors",
        _REWARDS,
        _called(rewards.Anchors),
        lambda: {"embedder": tiny_runs.embedder(), "like": ["red"], "unlike": ["blue"], **_TEXTS},
    ),
    Target("mopref.llm.rewards.Brevity", _REWARDS, _called(rewards.Brevity), lambda: _TEXTS),
    *(
        Target(
            f"mopref.llm.policy_gradient.{kind.__name__}",
            _REWARDS,
            _advantages(kind),
            lambda kind=kind: options_of(kind, beta=0.1, normalize=True),
            covers=(
                "mopref.llm.policy_gradient.PolicyGradient",
                "mopref.llm.policy_gradient.Advantages",
                "mopref.llm.policy_gradient.RolloutGroups",
            ),
        )
        for kind in _ALGORITHMS
    ),
    Target(
        "mopref.llm.policy_gradient.PretrainingTerm",
        _REWARDS,
        policy_gradient.PretrainingTerm,
        lambda: options_of(policy_gradient.PretrainingTerm, data=[{"prompt_ids": [1], "response_ids": [5, 6]}]),
    ),
    Target(
        "mopref.llm.policy_gradient.ALGORITHMS",
        _REWARDS,
        lambda part: policy_gradient.ALGORITHMS.make(part),
        lambda: {"part": "rloo"},
        weight=0.3,
    ),
    Target("mopref.llm.policy.Sampling", _POLICY, policy.Sampling, lambda: options_of(policy.Sampling), weight=3),
    Target(
        "mopref.llm.policy.sample_responses",
        _POLICY,
        _sampled,
        lambda: {
            "model": tiny.adapted(),
            "prompt_ids": [[3, 5, 2], [3, 2]],
            "preferences": _HALF,
            "sampling": _sampling(),
            "samples_per_prompt": 1,
            "greedy": False,
        },
        weight=0.4,
        covers=("mopref.llm.policy.Response",),
    ),
    Target(
        "mopref.llm.policy.answer_prompts",
        _POLICY,
        policy.answer_prompts,
        lambda: {
            "model": tiny.adapted(),
            "tokenizer": tiny.tokenizer(),
            "prompts": ["red cat", "blue"],
            "preferences": [0.5, 0.5],
            "max_new_tokens": 2,
            "sampling": None,
            "progress": False,
        },
        weight=0.4,
        covers=("mopref.llm.policy.Answer",),
    ),
    Target(
        "mopref.llm.policy.stop_tokens",
        _POLICY,
        policy.stop_tokens,
        lambda: {"tokenizer": tiny.tokenizer(), "model": tiny.base()},
        weight=0.5,
    ),
    Target(
        "mopref.llm.policy.Policy",
        _POLICY,
        policy.Policy,
        lambda: {"model": tiny.adapted(), "sampling": policy.Sampling()},
        weight=0.5,
    ),
    *(
        Target(f"mopref.llm.policy.Policy.{name}", _POLICY, _policy_method(name), arguments, weight=0.4)
        for name, arguments in (
            ("check_lengths", lambda: {"lengths": [3, 4], "what": "row", "new_tokens": 0}),
            ("checked_lengths", lambda: {"data": tiny.rows(), "responses": ["response_0_ids"]}),
            ("check_prompts", lambda: {"data": tiny.prompt_rows()}),
            ("sample", lambda: {"prompt_ids": [[3, 5, 2]], "preferences": [0.5, 0.5], "samples_per_prompt": 1}),
        )
    ),
    *(
        Target(
            f"mopref.objectives.{kind.__name__}",
            _OBJECTIVES,
            _on_rows(kind),
            lambda kind=kind: options_of(kind, names=tiny.NAMES, data=_rows(kind), preferences=_HALF[:1]),
            covers=("mopref.llm.pairs.PairObjective", "mopref.llm.pairs.PairBatch", "mopref.llm.pairs.log_ratios"),
        )
        for kind in _ON_ROWS
    ),
    *(
        Target(
            f"mopref.objectives.{kind.__name__}",
            _OBJECTIVES,
            _on_prompts(kind),
            lambda kind=kind: options_of(
                kind,
                rewards=_rewards(),
                tokenizer=tiny.tokenizer(),
                sampling=policy.Sampling(max_new_tokens=2),
                data=tiny.prompt_rows(),
                preferences=_HALF[:1],
            ),
            weight=0.4,
        )
        for kind in _ON_PROMPTS
    ),
    Target(
        "mopref.llm.pairs.MarginLoss",
        _OBJECTIVES,
        lambda **options: pairs.MarginLoss(**options)(torch.tensor([0.5]), torch.tensor([1])),
        lambda: options_of(pairs.MarginLoss),
    ),
    Target(
        "mopref.llm.pairs.margin_gramians",
        _OBJECTIVES,
        pairs.margin_gramians,
        lambda: {
            "margins": torch.zeros(1, 2),
            "labels": torch.tensor([[0, 1], [1, -1]]),
            "loss": pairs.MarginLoss(),
        },
        weight=0.5,
    ),
    Target(
        "mopref.llm.pairs.on_policy_pairs",
        _OBJECTIVES,
        pairs.on_policy_pairs,
        lambda: {
            **options_of(pairs.on_policy_pairs, model=tiny.adapted(), tokenizer=tiny.tokenizer()),
            "prompts": ["red", "blue cat"] * 4,
            "rewards": {"helpful": _lengths},
            "sampling": policy.Sampling(max_new_tokens=3),
            "gaps": {"helpful": 1.0},
        },
        weight=0.3,
    ),
    Target("mopref.llm.pairs.LOSSES", _OBJECTIVES, pairs.LOSSES.find, lambda: {"name": "sigmoid"}, weight=0.3),
    Target("mopref.llm.evaluation.preference_accuracies", _EVALUATION, evaluation.preference_accuracies, _accuracies),
    Target(
        "mopref.llm.evaluation.answer_accuracies",
        _EVALUATION,
        evaluation.answer_accuracies,
        lambda: {"surplus": _accuracies()["margins"], "labels": _accuracies()["labels"]},
    ),
    *(
        Target(
            f"mopref.llm.evaluation.{function.__name__}",
            _EVALUATION,
            function,
            lambda function=function, kind=kind: _front(function, kind, _rows(kind)),
            weight=0.3,
        )
        for function, kind in (
            (evaluation.preference_front, objectives.DPO),
            (evaluation.answer_front, objectives.KTO),
            (evaluation.loss_front, objectives.SFT),
        )
    ),
    Target(
        "mopref.llm.evaluation.reward_front",
        _EVALUATION,
        evaluation.reward_front,
        lambda: {
            "model": tiny.adapted(),
            "settings": RolloutSettings(_rewards(), policy.Sampling(max_new_tokens=2), 1, tiny.tokenizer()),
            "data": tiny.prompt_rows(),
            "preferences": _HALF,
            "batch_size": 2,
            "interval_level": 0.9,
            "reference_point": None,
            "metadata": None,
            "extra": None,
            "with_kl": True,
        },
        weight=0.3,
    ),
    Target(
        "mopref.llm.evaluation.sample_answers",
        _EVALUATION,
        evaluation.sample_answers,
        lambda: options_of(
            evaluation.sample_answers,
            model=tiny.adapted(),
            tokenizer=tiny.tokenizer(),
            data=tiny.prompt_rows(),
            preferences=_HALF,
            sampling=policy.Sampling(max_new_tokens=2),
        ),
        weight=0.3,
        covers=("mopref.llm.evaluation.SampledAnswers",),
    ),
    Target(
        "mopref.llm.evaluation.front_of_figures",
        _EVALUATION,
        evaluation.front_of_figures,
        lambda: options_of(
            evaluation.front_of_figures, objectives=_figures(), extra={}, units=["a", "b", "c"], preferences=_HALF
        ),
        covers=("mopref.llm.evaluation.Figure",),
        weight=0.5,
    ),
    Target(
        "mopref.llm.evaluation.figure_columns",
        _EVALUATION,
        evaluation.figure_columns,
        lambda: options_of(evaluation.figure_columns, figures=_figures(), units=["a", "b", "c"]),
        weight=0.5,
    ),
    Target(
        "mopref.llm.evaluation.prompt_units", _EVALUATION, evaluation.prompt_units, lambda: {"data": tiny.prompt_rows()}
    ),
    Target(
        "mopref.llm.evaluation.win_rates",
        _EVALUATION,
        evaluation.win_rates,
        lambda: {
            "judge": lambda prompts, first, second: [1.0] * len(first),
            "prompts": ["red", "blue"],
            "answers": ["a", "b"],
            "base_answers": ["c", "d"],
        },
        covers=("mopref.llm.evaluation.Judge",),
    ),
    Target(
        "mopref.llm.evaluation.RewardJudge",
        _EVALUATION,
        lambda prompts, responses, others, **options: evaluation.RewardJudge(**options)(prompts, responses, others),
        lambda: {"reward": _lengths, "name": "judge", "tokenizer": None, **_TEXTS, "others": ["a", "b"]},
    ),
]

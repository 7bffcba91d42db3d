"""VLLM against a server that answers as vLLM does: distributions, what is refused, and what is left behind."""

import json
from collections import Counter

import pytest
import torch
from _counted_rewards import PREFERENCES, ROWS
from _fake_vllm import fake_vllm

from mopref.llm.data.sequences import collate_sequences
from mopref.llm.engines import VLLM
from mopref.llm.engines.engine import mean_difference, sampled_by
from mopref.llm.policy import Policy, Sampling

SAMPLING = Sampling(4, 1, temperature=0.8, stop_token_ids=(2, *range(30, 60)), vocabulary=(range(0, 20), range(22, 95)))
PROMPTS = [row["prompt_ids"] for row in ROWS]
ROW_PREFERENCES = PREFERENCES.repeat_interleave(2, dim=0)


@pytest.fixture
def engine(server, tmp_path) -> VLLM:
    return VLLM(server.url, tmp_path / "shelf", connections=2, timeout=30)


def difference(engine, policy, samples: int = 3) -> float:
    responses, outputs, told = sampled_by(engine, policy, PROMPTS, ROW_PREFERENCES, samples, False)
    prompts = [ids for ids in PROMPTS for _ in range(samples)]
    mask = collate_sequences(prompts, [response.ids for response in responses]).response_mask
    return mean_difference(outputs.log_probabilities, told, mask)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(4, stop_token_ids=()),
        SAMPLING,
        Sampling(3, temperature=1.3, stop_token_ids=(5,), vocabulary=(range(3, 12),)),
    ],
    ids=["plain", "all settings", "few tokens"],
)
def test_what_the_server_says_of_its_samples_is_what_the_model_says(model, engine, sampling):
    """Vocabulary, earliest stop and temperature are the same on both sides, and λ of each prompt its own."""
    policy = Policy(model, sampling)
    engine.check(policy, ROWS)
    assert difference(engine, policy) < 1e-4


def test_samples_have_the_distribution_of_the_policy(model, engine):
    """First tokens of 400 samples to two prompts, each at its λ, by their total variation from the exact ones."""
    policy = Policy(model, Sampling(1, temperature=0.5, stop_token_ids=(), vocabulary=(range(10, 16),)))
    preferences = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    prompts = [[41, 42], [41, 42]]
    torch.manual_seed(0)
    responses, _ = engine.sample(policy, prompts, preferences, 400)
    exact = []
    for row in range(2):
        logits = model(torch.tensor([prompts[row]]), preferences=preferences[row]).logits[0, -1, 10:16]
        exact.append((logits / 0.5).softmax(-1).tolist())
        counts = Counter(response.ids[0] for response in responses[400 * row : 400 * (row + 1)])
        shares = [counts[token] / 400 for token in range(10, 16)]
        assert sum(abs(a - b) for a, b in zip(shares, exact[row], strict=True)) / 2 < 0.1
    assert sum(abs(a - b) for a, b in zip(*exact, strict=True)) / 2 > 0.2, "the preferences differ"


def test_the_same_generator_asks_for_the_same_samples_and_another_for_others(model, engine):
    policy = Policy(model, SAMPLING)
    sampled = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        sampled.append(engine.sample(policy, PROMPTS, ROW_PREFERENCES, 2).responses)
    assert sampled[0] == sampled[1]
    assert sampled[0] != sampled[2]


def test_each_preference_is_loaded_once_under_a_fresh_name_and_nothing_stays(model, server, engine, tmp_path):
    policy, names = Policy(model, SAMPLING), []
    for _ in range(2):
        engine.sample(policy, PROMPTS, ROW_PREFERENCES, 2)
        loads = [form["lora_name"] for path, form in server.asked if path == "/v1/load_lora_adapter"]
        assert len(loads) == 2
        names += loads
        completions = [form for path, form in server.asked if path == "/v1/completions"]
        assert [form["prompt"] for form in completions if form["model"] == loads[0]].sort() == PROMPTS[:2].sort()
        assert {form["n"] for form in completions} == {2}
        assert len({form["seed"] for form in completions}) == 4
        server.asked.clear()
        assert not server.loaded
        assert not list((tmp_path / "shelf").iterdir())
    assert len(set(names)) == 4


def test_checking_draws_nothing_from_the_generator(model, engine):
    before = torch.get_rng_state()
    engine.check(Policy(model, SAMPLING), ROWS)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_cut_distribution_is_corrected_by_its_mass(model, engine):
    """With top_p the server samples from π/Z over the likeliest tokens, so that π/π_engine is Z, in (top_p, 1]."""
    policy = Policy(model, Sampling(3, top_p=0.7, stop_token_ids=()))
    engine.check(policy, ROWS)
    _, outputs, told = sampled_by(engine, policy, PROMPTS, ROW_PREFERENCES, 2, False)
    ratios = (outputs.log_probabilities - told).exp()
    assert 0.7 - 1e-4 < ratios.min() < 0.99
    assert ratios.max() < 1 + 1e-4


# What is refused.


def refuse(server) -> None:
    server.updates = False


def lower_rank(server) -> None:
    server.most_rank = 4


def shorten(server) -> None:
    server.most_tokens = 6


def say_raw(server) -> None:
    server.raw = True


def shift(server) -> None:
    server.shift = -1.0


def lock(server) -> None:
    server.token = "secret"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (refuse, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        (lower_rank, r"rank 6 is greater than max_lora_rank 4.*--max-lora-rank of k \+ p·m"),
        (shorten, "takes 6: start it with --max-model-len 7"),
        (say_raw, "--logprobs-mode processed_logprobs"),
        (shift, "differ from the trainer's by 1 nats a token"),
        (lock, "set VLLM_API_KEY"),
    ],
)
def test_a_server_that_will_not_do_is_refused(model, server, engine, change, words, tmp_path):
    change(server)
    with pytest.raises(ValueError, match=words):
        engine.check(Policy(model, SAMPLING), ROWS)
    assert not server.loaded
    assert not (tmp_path / "shelf").exists() or not list((tmp_path / "shelf").iterdir())


def test_another_base_model_is_refused(model, make_llama, tmp_path):
    with fake_vllm(make_llama(seed=5)) as other, pytest.raises(ValueError, match="it serves another base model"):
        VLLM(other.url, tmp_path).check(Policy(model, SAMPLING), ROWS)


def test_another_vocabulary_is_refused(model, make_llama, tmp_path):
    with fake_vllm(make_llama(vocab_size=160)) as other:
        with pytest.raises(ValueError, match="another"):
            VLLM(other.url, tmp_path).check(Policy(model, Sampling(8, stop_token_ids=())), ROWS)


def test_a_key_is_sent_where_there_is_one(model, server, engine, monkeypatch):
    server.token = "secret"
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    engine.check(Policy(model, SAMPLING), ROWS)


def test_a_server_that_is_gone_is_told(model, make_llama, tmp_path):
    with fake_vllm(make_llama()) as running:
        engine = VLLM(running.url, tmp_path, timeout=5)
    for ask in (
        lambda: engine.check(Policy(model, SAMPLING), ROWS),
        lambda: difference(engine, Policy(model, SAMPLING)),
    ):
        with pytest.raises(ConnectionError, match="does not answer"):
            ask()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({}, "no token ids"),
        ({"token_ids": [3, 4], "logprobs": {"token_logprobs": [-1.0]}}, "no token ids"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "no token ids"),
        ({"token_ids": [3, 100], "logprobs": {"token_logprobs": [-1.0, -1.0]}}, "samples the token 100"),
        ({"token_ids": [True, 4], "logprobs": {"token_logprobs": [-1.0, -1.0]}}, "samples the token True"),
        ({"token_ids": [3, 4], "logprobs": {"token_logprobs": [-1.0, 2.0]}}, "gives 2.0 as a log-probability"),
        ({"token_ids": [3, 4], "logprobs": {"token_logprobs": [-1.0, None]}}, "gives None as a log-probability"),
        ({"token_ids": [3], "logprobs": {"token_logprobs": [-1.0]}}, "ends a response after 1 tokens"),
        ({"token_ids": [30, 4], "logprobs": {"token_logprobs": [-1.0, -1.0]}}, "ends a response after 2 tokens"),
        ("nothing", "not 1 choices"),
    ],
)
def test_an_answer_that_cannot_be_the_models_is_refused(model, server, engine, choice, words):
    server.answer = {"choices": [choice]}
    with pytest.raises(ValueError, match=words):
        engine.sample(Policy(model, Sampling(2, stop_token_ids=(30,))), PROMPTS[:1], PREFERENCES[:1], 1)


@pytest.mark.parametrize("answer", [{"choices": []}, {}, []])
def test_an_answer_without_choices_is_refused(model, server, engine, answer):
    server.answer = answer
    with pytest.raises(ValueError, match="not 2 choices"):
        engine.sample(Policy(model, SAMPLING), PROMPTS[:1], PREFERENCES[:1], 2)


def test_an_end_of_the_models_own_that_is_none_of_the_stops_is_refused_beside_an_earliest_stop(model, engine):
    with pytest.raises(ValueError, match="min_new_tokens is 1, and vLLM keeps the model's own end 2"):
        engine.check(Policy(model, Sampling(4, 1, stop_token_ids=(30,))), ROWS)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"url": "127.0.0.1:8000"}, ValueError, "such as http://127.0.0.1:8000"),
        ({"url": "ftp://host"}, ValueError, "such as http"),
        ({"url": "file:///etc/passwd"}, ValueError, "such as http"),
        ({"url": "http://host:99999"}, ValueError, "Port"),
        ({"url": "http://me:secret@host"}, ValueError, "set VLLM_API_KEY instead"),
        ({"url": "http://host/?a=b"}, ValueError, "such as http"),
        ({"url": "http://ho st"}, ValueError, "such as http"),
        ({"url": 3}, TypeError, "give a text"),
        ({"connections": 0}, ValueError, "connections"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"importance_limit": 0.5}, ValueError, "at least 1"),
        ({"importance_limit": float("inf")}, ValueError, "finite"),
        ({"tolerance": 0}, ValueError, "tolerance"),
        ({"folder": ""}, ValueError, "names no folder"),
        ({"folder": 3}, TypeError, "give a path"),
    ],
)
def test_options_that_cannot_be_are_refused(options, error, words):
    with pytest.raises(error, match=words) as caught:
        VLLM(**{"url": "http://127.0.0.1:8000", **options})
    assert "secret" not in str(caught.value)


def test_a_path_before_the_servers_is_kept(make_llama, model, tmp_path, server):
    """As behind a proxy: the fake one knows no such path, and says so."""
    with pytest.raises((ValueError, ConnectionError)):
        VLLM(f"{server.url}/engine/", tmp_path).sample(Policy(model, SAMPLING), PROMPTS, ROW_PREFERENCES, 1)
    assert {path.split("/v1")[0] for path, _ in server.asked} == {"/engine"}


def test_what_is_sent_is_plain_json(model, server, engine):
    engine.sample(Policy(model, SAMPLING), PROMPTS, ROW_PREFERENCES, 1)
    forms = [form for path, form in server.asked if path == "/v1/completions"]
    json.dumps(forms, allow_nan=False)
    assert all(form["logit_bias"].keys() == {"20", "21", *map(str, range(95, 100))} for form in forms)

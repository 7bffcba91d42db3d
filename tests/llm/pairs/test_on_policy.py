"""Pairs that the base model samples: whose answers they are, how they are labelled, and what is left out or refused."""

import copy

import pytest
import torch

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data import LoadReport, validate_records
from mopref.llm.pairs import on_policy_pairs
from mopref.llm.policy import Sampling
from mopref.llm.rewards import RewardError, token_reward

NAMES = ("cats", "short")
PROMPTS = ["red cat", "blue dog runs here", "green", "dog", "cat eats now then", "blue"] * 3
SAMPLING = Sampling(max_new_tokens=5)

pytestmark = pytest.mark.filterwarnings("ignore:.*rows made:UserWarning")


def cats(prompts, responses):
    return [float(text.split().count("cat")) for text in responses]


@token_reward
def short(prompt_ids, response_ids):
    return [-len(ids) for ids in response_ids]


REWARDS = {"cats": cats, "short": short}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, make_llama):
    from _tiny_runs import save_model
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(save_model(tmp_path_factory.mktemp("tiny") / "model", make_llama))


@pytest.fixture
def base(tokenizer, make_llama):
    return make_llama(vocab_size=len(tokenizer), max_position_embeddings=64)


@pytest.fixture
def model(base, randomise):
    config = SVDLoRAConfig(objectives=("a", "b"), rank=2, layers=[-1])
    return randomise(PreferenceModel(copy.deepcopy(base), config), std=0.5).train()


@pytest.fixture
def words_only(tokenizer):
    """Answers of five words and no special token, so that a text says all there is of it."""
    return Sampling(max_new_tokens=5, stop_token_ids=(), vocabulary=(range(tokenizer.vocab["red"], len(tokenizer)),))


def test_labels_are_those_of_the_rewards(model, tokenizer, words_only):
    """Worked out from the texts that come back: a gap of two cats, and any difference the other way."""
    rewards = {"cats": cats, "reversed": lambda prompts, responses: [-value for value in cats(prompts, responses)]}
    records = on_policy_pairs(model, tokenizer, PROMPTS * 4, rewards, words_only, gaps={"cats": 2})
    validate_records(records, ("cats", "reversed"))
    found = set()
    for record in records:
        difference = record["response_1"].split().count("cat") - record["response_0"].split().count("cat")
        assert record["cats"] == (-1 if abs(difference) < 2 else int(difference > 0))
        assert record["reversed"] == (-1 if difference == 0 else int(difference < 0))
        found.add((record["cats"], record["reversed"]))
    assert {(0, 1), (1, 0), (-1, 0), (-1, 1)} <= found


def test_rewards_are_shown_prompt_and_answers_as_texts_or_ids(model, tokenizer, words_only):
    shown = {}

    def texts(prompts, responses):
        shown["texts"] = list(zip(prompts, responses, strict=True))
        return cats(prompts, responses)

    @token_reward
    def ids(prompt_ids, response_ids):
        shown["ids"] = list(zip(map(tokenizer.decode, prompt_ids), map(tokenizer.decode, response_ids), strict=True))
        return [ids[0] for ids in response_ids]

    prompts = ["red", "dog", [{"role": "user", "content": "blue"}]]
    records = on_policy_pairs(model, tokenizer, prompts, {"texts": texts, "ids": ids}, words_only)
    assert [prompt for prompt, _ in shown["texts"]] == [prompt for prompt in prompts for _ in range(2)]
    assert [text for _, text in shown["texts"]] == [text for _, text in shown["ids"]]
    for prompt, word in zip(
        [prompt for prompt, _ in shown["ids"]], ["red", "red", "dog", "dog", "blue", "blue"], strict=True
    ):
        assert f" {word} " in prompt
    pairs = [text for _, text in shown["texts"]]
    for record in records:
        place = 2 * prompts.index(record["prompt"])
        assert [record["response_0"], record["response_1"]] == pairs[place : place + 2]


def test_answers_are_the_bases(model, base, tokenizer):
    """One token each: as often as the softmax of the base's own logits says, and not as the adapted model's."""
    words, drawn = tokenizer.get_vocab(), []

    def reward(prompts, responses):
        drawn.extend(responses)
        return cats(prompts, responses)

    sampling = Sampling(max_new_tokens=1, stop_token_ids=(), vocabulary=(range(words["red"], len(tokenizer)),))
    on_policy_pairs(model, tokenizer, ["red cat"] * 600, {"cats": reward}, sampling, batch_size=200)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "red cat"}], add_generation_prompt=True)[
        "input_ids"
    ]
    with torch.no_grad():
        logits = base(torch.tensor([ids])).logits[0, -1, words["red"] :]
    expected = logits.double().softmax(-1)
    names = sorted(words, key=words.get)[words["red"] :]
    shares = torch.tensor([drawn.count(name) / len(drawn) for name in names], dtype=torch.float64)
    assert len(drawn) == 1200
    # Six standard errors.
    assert ((shares - expected).abs() < 6 * (expected * (1 - expected) / 1200).sqrt()).all()


def test_a_seed_gives_the_same_and_nothing_else_moves(model, tokenizer):
    weights, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = on_policy_pairs(model, tokenizer, PROMPTS, REWARDS, SAMPLING, 3, batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert on_policy_pairs(model, tokenizer, PROMPTS, REWARDS, SAMPLING, 3, batch_size=4) == first
    assert on_policy_pairs(model, tokenizer, PROMPTS, REWARDS, SAMPLING, 4, batch_size=4) != first
    places = iter(PROMPTS)
    assert all(record["prompt"] in places for record in first), "in the order of the prompts"
    assert model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_what_is_of_no_use_is_left_out_and_counted(model, tokenizer):
    report = LoadReport()
    one_token = Sampling(max_new_tokens=2)
    with pytest.warns(UserWarning, match="left out"):
        records = on_policy_pairs(
            model, tokenizer, PROMPTS * 10, {"cats": cats}, one_token, report=report, batch_size=90
        )
    assert report.rows == 180
    assert report.records == len(records)
    assert sum(report.left_out.values()) == 180 - len(records)
    assert set(report.left_out) == {"pairs: equal answers", "pairs: empty text", "pairs: no label on any objective"}
    for record in records:
        assert record["response_0"].strip()
        assert record["response_1"].strip()
        assert record["response_0"] != record["response_1"]
        assert record["cats"] >= 0


def test_a_difference_that_is_the_gap_counts(model, tokenizer):
    """.3 − .2 is less than .1 in binary."""
    rewards = {"given": lambda prompts, responses: [0.3, 0.2] * (len(responses) // 2)}
    records = on_policy_pairs(model, tokenizer, PROMPTS, rewards, SAMPLING, gaps={"given": 0.1})
    assert {record["given"] for record in records} == {0}
    with pytest.raises(ValueError, match=r"'given': of 18 pairs .* differ by 0\.1 at most, and its gap is 0\.11"):
        on_policy_pairs(model, tokenizer, PROMPTS, rewards, SAMPLING, gaps={"given": 0.11})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"rewards": {}}, ValueError, "there is no reward: give at least one"),
        ({"rewards": {"prompt": cats}}, ValueError, "it names the label columns"),
        ({"rewards": {"cats": 3}}, TypeError, r"rewards\['cats'\] is 3: give a function"),
        ({"gaps": {"dogs": 1}}, ValueError, "gaps hold 'dogs', and there is no such reward: there are cats, short"),
        ({"gaps": {"cats": -0.5}}, ValueError, r"gaps\['cats'\] is -0\.5: it is a difference"),
        ({"gaps": {"cats": float("nan")}}, ValueError, r"gaps\['cats'\] is nan"),
        ({"gaps": {"cats": "much"}}, TypeError, r"gaps\['cats'\] is 'much'"),
        ({"prompts": []}, ValueError, "there are no prompts"),
        ({"prompts": ["red", " "]}, ValueError, "row 1: the prompt is empty"),
        ({"prompts": "red"}, ValueError, "prompts is a single text"),
        ({"max_prompt_length": 3}, ValueError, "row 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"seed": 1.5}, TypeError, "seed is 1.5"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(model, tokenizer, changed, error, message):
    def never(prompts, responses):
        raise AssertionError("nothing is sampled")

    options = {"prompts": PROMPTS, "rewards": {"cats": never, "short": never}, "sampling": SAMPLING, **changed}
    with pytest.raises(error, match=message):
        on_policy_pairs(model, tokenizer, **options)


def test_a_reward_that_is_no_number_is_told_with_its_prompt(model, tokenizer):
    def reward(prompts, responses):
        return [float("nan") if prompt == "dog" else 1.0 for prompt in prompts]

    with pytest.raises(RewardError, match="reward 'cats' returned nan for row") as caught:
        on_policy_pairs(model, tokenizer, PROMPTS[:6], {"cats": reward}, SAMPLING, batch_size=2)
    assert caught.value.prompt == 3


def test_long_prompts_are_dropped(model, tokenizer):
    with pytest.warns(UserWarning, match="left out"):
        records = on_policy_pairs(
            model, tokenizer, PROMPTS, REWARDS, SAMPLING, max_prompt_length=5, on_long_prompt="drop"
        )
    assert {record["prompt"] for record in records} <= {"green", "dog", "blue"}

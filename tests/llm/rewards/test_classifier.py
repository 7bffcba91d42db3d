import copy

import pytest
import torch

from mopref.llm.rewards import REWARDS, ClassifierReward, compute_rewards, describe_rewards

WORDS = "the cat dog sat ran away good bad user assistant end .".split()
PROMPTS = ["the cat", "the dog sat . the cat ran away", "dog", "the cat sat"]
RESPONSES = ["good", "bad dog", "the cat sat . the dog ran away . good", ""]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def make_tokenizer(pair: bool = False, template: str | None = None, **special):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["<pad>", "<unk>", "<eos>", "<cls>", "<sep>", "<end>", *WORDS]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if pair:
        core.post_processor = processors.TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[("<cls>", 3), ("<sep>", 4)]
        )
        special |= {"cls_token": "<cls>", "sep_token": "<sep>"}
    else:
        special |= {"model_input_names": ["input_ids", "attention_mask"]}
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"} | special
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **{k: v for k, v in special.items() if v is not None})
    tokenizer.chat_template = template
    return tokenizer


def make_model(kind: str, num_labels: int = 1, **options):
    import transformers

    common = {"vocab_size": 18, "num_labels": num_labels, "hidden_size": 16, "num_hidden_layers": 2}
    common |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    common |= {"initializer_range": 0.5, "pad_token_id": 0} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "llama":
            config = transformers.LlamaConfig(num_key_value_heads=2, **common)
            return transformers.LlamaForSequenceClassification(config).train()
        if kind == "gpt2":
            return transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**common)).train()
        return transformers.BertForSequenceClassification(transformers.BertConfig(**common)).train()


KINDS = {
    "bert pair": ("bert", {"pair": True}, {}),
    "llama concatenation": ("llama", {}, {}),
    "llama template": ("llama", {"template": TEMPLATE}, {}),
    "gpt2 without padding token": ("gpt2", {"pad_token": None}, {"pad_token_id": None}),
    "llama template without padding token": ("llama", {"template": TEMPLATE}, {"pad_token_id": None}),
}


@pytest.fixture(params=KINDS, name="parts")
def parts_of_a_kind(request):
    kind, tokenizer, model = KINDS[request.param]
    return make_model(kind, **model), make_tokenizer(**tokenizer)


def assert_close(actual, expected):
    """Equal but for float32 rounding; other layouts differ by tenths."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_is_one_by_one(parts, side):
    model, tokenizer = parts
    tokenizer.padding_side = side
    reward = ClassifierReward(model, tokenizer, sign=1, batch_size=3)
    together = reward(PROMPTS, RESPONSES)
    assert together.shape == (4,)
    assert together.std() > 0.1
    alone = torch.cat([reward([p], [r]) for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    assert_close(together, alone)
    order = [2, 0, 3, 1]
    again = reward([PROMPTS[i] for i in order], [RESPONSES[i] for i in order])
    assert_close(again, together[order])
    assert reward([], []).shape == (0,)


def test_sign_flips_exactly(parts):
    good, bad = (ClassifierReward(*parts, sign=sign)(PROMPTS, RESPONSES) for sign in (1, -1))
    assert torch.equal(good, -bad)
    assert not torch.equal(good, bad)


def test_nothing_in_the_model_is_changed(parts):
    model, tokenizer = parts
    before, weights = model.config.to_dict(), copy.deepcopy(model.state_dict())
    values = ClassifierReward(model, tokenizer, sign=1)(PROMPTS, RESPONSES)
    assert model.training
    assert model.config.to_dict() == before
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert not values.requires_grad
    # Dropout would make two calls differ.
    assert torch.equal(values, ClassifierReward(model, tokenizer, sign=1)(PROMPTS, RESPONSES))


@torch.no_grad()
def by_hand(model, tokenizer, text, text_pair=None, special=True):
    """One row without padding: the last position's output, the way a decoder without padding token reads it."""
    model.eval()
    inputs = tokenizer(text, text_pair, add_special_tokens=special, return_tensors="pt")
    return model(**inputs).logits[0].double()


def test_layout_of_a_pair():
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True)
    value = ClassifierReward(model, tokenizer, sign=1)(PROMPTS, RESPONSES)[1]
    assert_close(value, by_hand(model, tokenizer, PROMPTS[1], RESPONSES[1])[0])
    chat = [{"role": "user", "content": "the dog sat ."}, {"role": "assistant", "content": "the cat ran away"}]
    assert_close(ClassifierReward(model, tokenizer, sign=1)([chat], ["bad dog"])[0], value)


def test_layout_of_a_concatenation_reads_the_end_of_sequence_token():
    model, tokenizer = make_model("llama", pad_token_id=None), make_tokenizer()
    value = ClassifierReward(model, tokenizer, sign=1)(PROMPTS, RESPONSES)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        assert_close(value[row], by_hand(model, tokenizer, f"{prompt} {response} <eos>")[0])


def test_layout_of_a_template_is_the_whole_rendered_dialogue():
    model, tokenizer = make_model("llama", pad_token_id=None), make_tokenizer(template=TEMPLATE)
    reward = ClassifierReward(model, tokenizer, sign=1)
    value = reward(["the cat"], ["good dog"])[0]
    assert_close(value, by_hand(model, tokenizer, "user the cat <end> assistant good dog <end>")[0])
    chat = [{"role": "user", "content": "the cat"}]
    assert_close(reward([chat], ["good dog"])[0], value)


def test_padding_token_that_ends_a_row_does_not_move_the_score():
    """With the end-of-sequence token as padding, the score would be read one token early."""
    model, tokenizer = make_model("llama", pad_token_id=None), make_tokenizer(pad_token="<eos>")
    reward = ClassifierReward(model, tokenizer, sign=1)
    assert_close(
        reward(["the cat", "dog"], ["good", "bad bad bad bad"])[0], by_hand(model, tokenizer, "the cat good <eos>")[0]
    )
    model.config.pad_token_id = tokenizer.eos_token_id
    early = by_hand(model, tokenizer, "the cat good")[0]
    assert_close(reward(["the cat", "dog"], ["good", "bad bad bad bad"])[0], early)


def test_stand_in_for_the_padding_token_ends_no_row():
    model, tokenizer = make_model("llama", pad_token_id=None), make_tokenizer()
    # Their last tokens are 0 and 1, the first two that might stand in.
    responses = ["the dog <pad>", "cat <unk>", "the cat sat away ."]
    values = ClassifierReward(model, tokenizer, sign=1, with_prompt=False)(["dog"] * 3, responses)
    for value, response in zip(values, responses, strict=True):
        assert_close(value, by_hand(model, tokenizer, response)[0])


def test_without_prompt():
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True, template=TEMPLATE)
    reward = ClassifierReward(model, tokenizer, sign=-1, with_prompt=False)
    values = reward(PROMPTS, RESPONSES)
    assert torch.equal(values, reward(PROMPTS[::-1], RESPONSES))
    assert_close(-values[2], by_hand(model, tokenizer, RESPONSES[2])[0])


def test_labels_and_activations():
    names = {0: "safe", 1: "toxic", 2: "rude"}
    model = make_model("bert", num_labels=3, id2label=names, label2id={v: k for k, v in names.items()})
    tokenizer = make_tokenizer(pair=True)
    logits = by_hand(model, tokenizer, PROMPTS[0], RESPONSES[0])

    def value(**options):
        return ClassifierReward(model, tokenizer, sign=1, **options)(PROMPTS[:1], RESPONSES[:1])[0]

    for index, name in names.items():
        assert_close(value(label=index), logits[index])
        assert_close(value(label=name), logits[index])
        assert_close(value(label=name, activation="probability"), logits.softmax(0)[index])
    model.config.problem_type = "multi_label_classification"
    assert_close(value(label="rude", activation="probability"), logits.sigmoid()[2])
    for label in (None, "Toxic", 3, -1, True):
        with pytest.raises(ValueError, match=r"0 'safe', 1 'toxic', 2 'rude'"):
            value(label=label)
    assert describe_rewards({"r": ClassifierReward(model, tokenizer, sign=-1, label=1)}) == {
        "r": "higher is a lower output of 'toxic'"
    }


def test_probability_of_a_single_output_is_its_sigmoid():
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True)
    logit, probability = (
        ClassifierReward(model, tokenizer, sign=1, activation=name)(PROMPTS, RESPONSES)
        for name in ("logit", "probability")
    )
    assert_close(probability, logit.sigmoid())


@pytest.mark.parametrize("sign", [0, 2, -0.5, True, "1", None])
def test_other_signs_are_refused(sign):
    with pytest.raises(ValueError, match=rf"^sign is {sign!r}: .* must be 1 if a high output is good .* or -1"):
        ClassifierReward(make_model("bert"), make_tokenizer(pair=True), sign=sign)


def test_other_arguments_are_refused():
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True)
    with pytest.raises(TypeError, match="sign"):
        ClassifierReward(model, tokenizer)
    with pytest.raises(ValueError, match="activation is 'softmax'"):
        ClassifierReward(model, tokenizer, sign=1, activation="softmax")
    for name in ("batch_size", "max_length"):
        with pytest.raises(ValueError, match=f"{name} is 0: .* must be ≥ 1"):
            ClassifierReward(model, tokenizer, sign=1, **{name: 0})


def test_long_rows_keep_the_end(parts):
    model, tokenizer = parts
    reward = ClassifierReward(model, tokenizer, sign=1)
    assert reward.max_length == 64
    long_prompt, long_response = "the cat ran . " * 40 + "dog", "the dog sat " * 40 + "good"
    values = reward([long_prompt, "dog"], ["good", long_response])
    assert torch.isfinite(values).all()
    if tokenizer.sep_token is None:
        # The start was cut: what stands there makes no difference.
        assert_close(reward(["away " + long_prompt], ["good"])[0], values[0])
        assert not torch.isclose(reward([long_prompt], ["bad"])[0], values[0])


def test_from_a_folder(tmp_path):
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True)
    model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    reward = ClassifierReward.from_pretrained(tmp_path / "whole", sign=-1, batch_size=2)
    expected = ClassifierReward(model, tokenizer, sign=-1)(PROMPTS, RESPONSES)
    assert_close(reward(PROMPTS, RESPONSES), expected)
    model.bert.save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"no weights for classifier.bias, classifier.weight.*random"):
        ClassifierReward.from_pretrained(tmp_path / "headless", sign=1)


def test_number_of_rows_and_use_among_rewards():
    reward = ClassifierReward(make_model("bert"), make_tokenizer(pair=True), sign=1)
    with pytest.raises(ValueError, match="4 prompts and 2 responses"):
        reward(PROMPTS, RESPONSES[:2])
    result = compute_rewards({"model": reward}, PROMPTS, RESPONSES, None, None)
    assert torch.equal(result[:, 0], reward(PROMPTS, RESPONSES))


def test_by_name_and_its_repr():
    parts = {"model": make_model("bert"), "tokenizer": make_tokenizer(pair=True)}
    reward = REWARDS.make("classifier", **parts, sign=-1, activation="probability")
    assert repr(reward) == (
        "ClassifierReward(model='BertForSequenceClassification', sign=-1, label=0, activation='probability', "
        "batch_size=16, max_length=64, with_prompt=True)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": torch.ones(2)}, r"sign is \[1\.0, 1\.0\]: rewards are maximised"),
        ({"sign": "1"}, "sign is '1': rewards are maximised"),
        ({"sign": 1, "label": torch.zeros(2)}, r"label is \[0\.0, 0\.0\]: it must be one of the model's labels"),
        ({"sign": 1, "label": [0]}, r"label is \[0\]: it must be one of the model's labels"),
    ],
)
def test_options_of_another_kind_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ClassifierReward(make_model("bert"), make_tokenizer(pair=True), **options)

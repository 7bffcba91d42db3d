"""The page as its visitors use it: answers at their λ, bounds, refusals in sentences, and nobody sees another's."""

import logging

import pytest
import torch

pytest.importorskip("gradio")

SETTINGS = (1.0, 9, 0.0)  # strength, most tokens, temperature


def slide(visitor, name: str, value: float):
    return visitor.does("input", visitor.place(label=name), value)


def ask(visitor, prompt: str, *settings):
    dialogue, _, kept, problem = visitor.does("click", visitor.place(elem_id="send"), prompt, *(settings or SETTINGS))
    return dialogue, kept, problem


def expected(server, prompt: str, preference, count: int = 9) -> str:
    """By ``generate``, alone."""
    from mopref.llm.policy import Sampling, sample_responses

    model, tokenizer = server.worker._model, server.tokenizer
    ids = tokenizer(f"<turn> {prompt} </s><turn>", add_special_tokens=False)["input_ids"]
    sampling = Sampling(max_new_tokens=count, stop_token_ids=(2,))
    (response,) = sample_responses(model, [list(ids)], torch.tensor([preference]), sampling, greedy=True)
    return tokenizer.decode(response.ids, skip_special_tokens=True).strip()


@pytest.fixture
def with_tokenizer(visitors):
    from _page_servers import page_tokenizer

    def make(*names, **settings):
        server, *made = visitors(*names, **settings)

        class Known:
            worker, terms, tokenizer = server.worker, server.terms, page_tokenizer()

        return Known, *made

    return make


def test_an_answer_is_that_of_the_sliders(with_tokenizer):
    from mopref.serving.page.texts import escaped

    server, visitor = with_tokenizer("ann")
    before = ask(visitor, "w1 w2")[0]
    _, harmless, _, told, front = slide(visitor, "helpful", 0.9)
    assert harmless == pytest.approx(0.1)
    assert "helpful .90, harmless .10" in told
    assert 'data-row="5"' in front or 'data-row="4"' in front
    visitor.does("click", visitor.place(elem_id="clear"))
    after = ask(visitor, "w1 w2")[0]
    assert escaped(expected(server, "w1 w2", (0.5, 0.5))) in before
    assert escaped(expected(server, "w1 w2", (0.9, 0.1))) in after
    assert "at helpful .90, harmless .10" in after


def test_a_dialogue_goes_on(visitors):
    _, visitor = visitors("ann")
    first = ask(visitor, "w1 w2")[0]
    second, kept, problem = ask(visitor, "w3")
    assert first.count('class="who"') == 2
    assert second.count('class="who"') == 4
    assert kept in ("", {"__type__": "update"}), "the question is taken, and is not there a second time"
    assert problem == ""


def test_nobody_sees_what_another_one_asks_or_chooses(visitors):
    _, ann, bob = visitors("ann", "bob")
    slide(ann, "helpful", 0.9)
    ask(ann, "w11 w12")
    dialogue = ask(bob, "w3")[0]
    assert "w11 w12" not in dialogue
    assert "at helpful .50, harmless .50" in dialogue
    assert dialogue.count('class="who"') == 2


@pytest.mark.parametrize(
    ("prompt", "words"), [("w1 " * 1100, "shorten it"), ("  ", "There is no question yet"), ("w1 </s>", "prompt")]
)
def test_what_cannot_be_answered_is_told_in_a_sentence(visitors, prompt, words):
    _, visitor = visitors("ann")
    dialogue, kept, problem = ask(visitor, prompt)
    assert words in problem
    assert 'role="alert"' in problem
    assert kept == prompt
    assert "Nothing has been asked yet" in dialogue


def test_a_busy_a_late_and_a_failing_server_say_so(visitors, monkeypatch, caplog):
    server, visitor = visitors("ann", seconds=60)
    with monkeypatch.context() as patch:
        patch.setattr(server.worker.room, "places", 0)
        _, kept, problem = ask(visitor, "w1")
        assert "The server is busy" in problem
        assert kept == "w1"

    def failing(requests):
        raise RuntimeError("secret of the machine")

    with monkeypatch.context() as patch:
        patch.setattr(server.worker._batch, "join", failing)
        problem = ask(visitor, "w1")[2]
    assert "The model failed on this request" in problem
    assert "secret" not in problem
    server, visitor = visitors("bob", seconds=1e-4)
    assert "within the time of a request" in (problem := ask(visitor, "w1")[2]) or "longer than" in problem


def test_nothing_that_is_asked_is_logged(visitors, caplog, capfd):
    _, visitor = visitors("ann")
    with caplog.at_level(logging.DEBUG):
        ask(visitor, "w71 w72")
    assert "w71 w72" not in caplog.text
    out = capfd.readouterr()
    assert "w71 w72" not in out.out + out.err


def test_bounds_hold_whatever_is_sent(visitors):
    _, visitor = visitors("ann", minimums={"harmless": 0.3})
    _, harmless, _, told, _ = slide(visitor, "helpful", 5.0)
    assert harmless == pytest.approx(0.3)
    assert "helpful .70, harmless .30" in told
    (strength,) = [each for each in visitor._config["components"] if each["props"].get("label") == "strength"]
    assert strength["props"]["interactive"] is False
    problem = ask(visitor, "w1", 1.5, 9, 0.0)[2]
    assert "Strength is 1.5: it is 1 here" in problem
    (slider,) = [each for each in visitor._config["components"] if each["props"].get("label") == "harmless"]
    assert (slider["props"]["minimum"], slider["props"]["maximum"]) == (0.3, 1.0)


def test_a_triangle_moves_the_sliders_and_stays_in_bounds(visitors):
    _, visitor = visitors("ann", m=3, minimums={"brief": 0.2})
    place = visitor.place(elem_id="triangle")
    helpful, harmless, brief, _, told, front = visitor.does("input", place, [1.2, 0.1, -0.3])
    assert helpful + harmless + brief == pytest.approx(1, abs=0.02)
    assert brief == pytest.approx(0.2)
    assert "brief .20" in told
    assert "polyline" in front
    # What is no λ at all changes nothing.
    assert visitor.does("input", place, [1.0])[:3] == [helpful, harmless, brief]


def test_side_by_side_is_one_batch(with_tokenizer, monkeypatch):
    from mopref.serving.page.texts import escaped

    server, visitor = with_tokenizer("ann")
    batches, join = [], server.worker._batch.join

    def spied(requests):
        batches.append([request.preference for request in requests])
        return join(requests)

    monkeypatch.setattr(server.worker._batch, "join", spied)
    at = ["yours", "most helpful", "most harmless", "the middle"]
    answers, problem = visitor.does("click", visitor.place(elem_id="ask-all"), "w5 w6", at, *SETTINGS)
    assert problem == ""
    assert batches == [[(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]]
    for preference in ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0)):
        assert escaped(expected(server, "w5 w6", preference)) in answers
    nothing = visitor.does("click", visitor.place(elem_id="ask-all"), "w5 w6", [], *SETTINGS)
    assert "There is no balance yet" in nothing[1]


def test_eight_questions_and_the_sliders_are_set(visitors):
    _, visitor = visitors("ann", minimums={"harmless": 0.45})
    shown = visitor.does("click", visitor.place(elem_id="begin"))[2]
    for number in range(1, 9):
        assert f"{number} of 8" in shown
        assert "<img" not in shown
        shown = visitor.does("click", visitor.place(elem_id="prefer-a"))[2]
    assert "This is you" in shown
    helpful, harmless, _, told, _ = visitor.does("click", visitor.place(elem_id="take"))
    assert helpful + harmless == pytest.approx(1, abs=0.011)
    assert harmless >= 0.45
    assert f"helpful .{round(100 * helpful):02d}" in told


def test_a_page_without_a_front_and_without_pairs_says_what_to_give(visitors):
    from mopref.serving.page.matter import PageMatter

    _, visitor = visitors("ann", matter=PageMatter(no_pairs="Give pairs by --pairs FILE."))
    values = {each["props"].get("elem_id"): each["props"].get("value") for each in visitor._config["components"]}
    assert "mopref evaluate" in values["front"]
    assert "--pairs FILE" in values["question"]
    assert "begin" not in values


def test_four_objectives_with_hostile_names_are_shown(visitors):
    _, visitor = visitors("ann", m=4)
    values = {each["props"].get("elem_id"): each["props"].get("value") for each in visitor._config["components"]}
    assert "a&lt;b&gt; .25" in values["chosen"]
    assert "a<b>" not in values["front"]
    visitor.does("click", visitor.place(elem_id="begin"))

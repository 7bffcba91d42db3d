"""The same pair in several rows is one record, whatever the order of rows, sides and objectives."""

from hypothesis import given, settings, strategies as st

from mopref.llm.data.loaders.labelled_pairs import LabelledPair, answer_key, checked_pair, joined_records
from mopref.llm.data.loaders.report import LoadReport

OBJECTIVES = ("helpful", "harmless")


def joined(pairs, seed=0, objectives=OBJECTIVES):
    report = LoadReport()
    return joined_records(pairs, objectives, seed, report), report


def preferred(record, objective):
    """The text of the preferred answer; ``None`` without a label."""
    return None if record[objective] < 0 else record[f"response_{record[objective]}"]


def test_one_pair_labelled_by_two_objectives():
    pairs = [
        LabelledPair("Why?", ("a", "b"), {"helpful": 0}),
        LabelledPair("Why?", ("c", "a"), {"helpful": 0}),
        LabelledPair(" Why? ", ("b", "a\n"), {"harmless": 0}),
    ]
    records, report = joined(pairs)
    assert [(preferred(record, "helpful"), preferred(record, "harmless")) for record in records] == [
        ("a", "b"),
        ("c", None),
    ]
    assert not report.left_out
    assert not report.unlabelled


def test_labels_in_conflict_are_ties():
    both = [LabelledPair("Why?", ("a", "b"), {"helpful": 0}), LabelledPair("Why?", ("b", "a"), {"helpful": 0})]
    records, report = joined(both)
    assert records == []
    assert report.unlabelled == {"helpful: labelled both ways": 1}
    assert report.left_out == {"pairs: no label on any objective": 1}
    records, report = joined([*both, LabelledPair("Why?", ("a", "b"), {"harmless": 1})])
    assert [(record["helpful"], preferred(record, "harmless")) for record in records] == [(-1, "b")]
    assert not report.left_out


def test_equal_labels_are_no_conflict():
    records, report = joined([LabelledPair("Why?", ("a", "b"), {"helpful": 0})] * 2)
    assert [preferred(record, "helpful") for record in records] == ["a"]
    assert not report.unlabelled


def test_messages_and_text_that_say_the_same_are_one_pair():
    message = [{"role": "user", "content": "Why?"}]
    forms = [
        LabelledPair("Why?", ("a", "b"), {"helpful": 0}),
        LabelledPair(message, ([{"role": "assistant", "content": "b"}], "a"), {"harmless": 0}),
    ]
    (record,), _ = joined(forms)
    (turned,), _ = joined(forms[::-1])
    assert record == turned
    assert record["prompt"] in ("Why?", message)


def test_the_position_says_nothing_and_is_seeded():
    pairs = [LabelledPair(f"Why {n}?", ("good", "bad"), {"helpful": 0}) for n in range(200)]
    labels = [record["helpful"] for record in joined(pairs)[0]]
    assert 70 < sum(labels) < 130
    assert labels != [record["helpful"] for record in joined(pairs, seed=1)[0]]
    assert all(preferred(record, "helpful") == "good" for record in joined(pairs, seed=1)[0])


def test_answers_are_equal_by_what_they_say():
    assert answer_key(" a\n") == answer_key([{"role": "assistant", "content": "a"}]) == "a"
    assert answer_key("a  b") != answer_key("a b"), "white space within an answer may be code"


def test_checked_pairs_are_split_and_flat():
    pair = checked_pair("Why?", [{"role": "assistant", "content": "a"}], "b", {"helpful": 1})
    assert pair == ("Why?", ("a", "b"), {"helpful": 1})


TEXTS = st.sampled_from(["a", "b", " b", "c"])
PAIRS = st.lists(
    st.builds(
        LabelledPair,
        st.sampled_from(["p", "q", "q ", "r"]),
        st.tuples(TEXTS, TEXTS).filter(lambda answers: answers[0].strip() != answers[1].strip()),
        st.dictionaries(st.sampled_from(OBJECTIVES), st.sampled_from([0, 1, -1]), min_size=1),
    ),
    max_size=12,
)


def by_text(records):
    return sorted(records, key=lambda record: (record["prompt"].strip(), record["response_0"], record["response_1"]))


@settings(max_examples=200, deadline=None)
@given(PAIRS, st.randoms(), st.integers(0, 3))
def test_the_order_of_rows_decides_the_order_of_records_alone(pairs, generator, seed):
    shuffled = list(pairs)
    generator.shuffle(shuffled)
    records, report = joined(pairs, seed)
    other_records, other_report = joined(shuffled, seed)
    assert by_text(records) == by_text(other_records)
    assert report == other_report


@settings(max_examples=200, deadline=None)
@given(PAIRS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_order_of_answers_says_nothing(pairs, turns):
    turned = [
        pair._replace(
            answers=pair.answers[::-1],
            labels={name: label if label < 0 else 1 - label for name, label in pair.labels.items()},
        )
        if turn
        else pair
        for pair, turn in zip(pairs, turns, strict=False)
    ]
    assert joined(turned) == joined(pairs)


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_other_labels_flip_the_record_and_move_no_answer(pairs):
    flipped = [
        pair._replace(labels={name: label if label < 0 else 1 - label for name, label in pair.labels.items()})
        for pair in pairs
    ]
    records, _ = joined(pairs)
    expected = [
        record | {name: record[name] if record[name] < 0 else 1 - record[name] for name in OBJECTIVES}
        for record in records
    ]
    assert joined(flipped)[0] == expected


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_no_pair_stands_twice_and_none_is_lost(pairs):
    records, report = joined(pairs)

    def key(prompt, answers):
        return (prompt.strip(), frozenset(answer.strip() for answer in answers))

    keys = [key(record["prompt"], (record["response_0"], record["response_1"])) for record in records]
    assert len(set(keys)) == len(keys)
    left_out = report.left_out["pairs: no label on any objective"]
    assert len(records) + left_out == len({key(pair.prompt, pair.answers) for pair in pairs})
    assert all(max(record[name] for name in OBJECTIVES) >= 0 for record in records)

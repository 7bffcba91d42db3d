import sys

import pytest

from mopref.llm.rewards import REWARDS, VaderSentiment

SENTENCES = [
    "The food was great and the staff were lovely!",
    "The food was not great.",
    "This is a terrible, horrible day.",
    "The train leaves at noon.",
    "",
]


def test_it_is_the_packages():
    vader = pytest.importorskip("vaderSentiment.vaderSentiment")
    reward = VaderSentiment()
    values = reward(["terrible"] * 5, SENTENCES)
    analyzer = vader.SentimentIntensityAnalyzer()
    assert values.tolist() == [analyzer.polarity_scores(text)["compound"] for text in SENTENCES]
    assert values[0] > 0.5
    assert values[1] < 0
    assert values[2] < -0.5
    assert values[3:].tolist() == [0.0, 0.0]
    assert reward.direction == "higher is more positive"
    assert reward([], []).shape == (0,)


def test_missing_package_names_the_extra(monkeypatch):
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(ImportError, match=r"pip install 'mopref\[rewards\]'"):
        VaderSentiment()


def test_by_name_and_its_repr():
    pytest.importorskip("vaderSentiment.vaderSentiment")
    assert repr(REWARDS.make("sentiment")) == "VaderSentiment()"

import sys

import pytest

from mopref.llm.rewards import REWARDS, ProfanityFree


def test_profanity_lowers_the_reward():
    pytest.importorskip("profanity_check")
    reward = ProfanityFree()
    texts = ["What a bloody stupid idiot, you shit.", "The train leaves at noon.", ""]
    values = reward(["shit"] * 3, texts)
    assert values[0] < 0.1
    assert values[1] > 0.9
    assert ((values >= 0) & (values <= 1)).all()
    for text, value in zip(texts, values, strict=True):
        assert reward([""], [text]).item() == pytest.approx(value.item(), abs=1e-12)
    assert reward([], []).shape == (0,)
    assert reward.direction == "higher is less profane"


def test_missing_package_names_the_extra(monkeypatch):
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(ImportError, match=r"pip install 'mopref\[rewards\]'"):
        ProfanityFree()


def test_weights_that_do_not_load(tmp_path, monkeypatch):
    (tmp_path / "profanity_check.py").write_text("raise AttributeError('no such estimator')", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "profanity_check", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="does not load with the scikit-learn that is installed"):
        ProfanityFree()


def test_by_name_and_its_repr():
    pytest.importorskip("profanity_check")
    assert repr(REWARDS.make("profanity")) == "ProfanityFree()"

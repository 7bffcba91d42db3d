import hashlib
import json

from mopref.llm.demo.benign_answers import benign_answers


def test_benign_answers_are_whole():
    pairs = benign_answers()
    assert len(pairs) == len(set(pairs)) == len({prompt for prompt, _ in pairs}) == 98
    assert all(prompt == prompt.strip() and answer for prompt, answer in pairs)
    assert ("What is the capital of Portugal?", "Lisbon.") in pairs
    # Fits in the cache are kept under this sum: with another one, everybody's reward is fitted again.
    assert hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12] == "3f336538999b"

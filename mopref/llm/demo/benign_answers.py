"""Everyday requests with answers, written for this project: what the published human harm scores lack."""

import json
from importlib import resources

__all__ = ["benign_answers"]


def benign_answers() -> list[tuple[str, str]]:
    """Pairs of a harmless request and its harmless answer, each request once.

    The human harm scores cover answers to risky requests only. A model fitted to those alone has never seen everyday
    text and guesses there; these answers, scored 0, show it what everyday text looks like. Some come close to risky
    subjects (medicine, locks, wars, crime novels), some are very short, some are full of feeling, so that neither
    subject nor length nor exclamation marks stand for harm.
    """
    lines = resources.files("mopref.llm.demo").joinpath("benign_answers.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["prompt"], record["answer"]) for record in records]

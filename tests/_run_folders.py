"""Folders of runs that were never trained: what reports and model cards read, with hostile texts in it."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from mopref import Front, simplex_lattice
from mopref.recipes import DataSettings, EvaluationSettings, ModelSettings, Recipe, save_recipe

NAMES = ("helpful", "harmless", "brief", "polite", "honest")
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"double\" & 'single' {{ 7 * 7 }}",
    "😀 שלום עולם \u202eabc",
    "</td></table>",
    "```\n| a | b |\n",
)
ADAPTER = {"peft_type": "MOPREF_SVD_LORA", "format_version": 2, "preference_convention": "importance"}


# An empty file of safetensors: the length of its header, and the header.
_TENSORS = (2).to_bytes(8, "little") + b"{}"


def front_of(count: int, intervals: bool = True) -> Front:
    """A front of m losses on a lattice, one point of it dominated."""
    preferences = simplex_lattice(count, 5 if count == 2 else count).numpy()
    generator = np.random.default_rng(count)
    values = 1 - 0.5 * preferences + 0.01 * generator.random(preferences.shape)
    values[-1] = values[0] + 0.1
    extra: dict[str, Any] = {f"accuracy_{NAMES[0]}": generator.random(len(values)), "note": ["<b>"] * len(values)}
    extra["kl"] = [None, *generator.random(len(values) - 1)]
    if intervals:
        measured = {NAMES[0]: values[:, 0], NAMES[1]: values[:, 1], "kl": np.array(extra["kl"], float)}
        for column, numbers in measured.items():
            extra |= {f"{column}_low": numbers - 0.05, f"{column}_high": numbers + 0.03}
    metadata: dict[str, Any] = {"base_losses": [0.9] * count, "reference_point": [2.0] * count, "seed": 0}
    metadata |= {"interval_level": 0.9, "hypervolume_interval": [0.1, 3.5]}
    return Front(preferences, values, NAMES[:count], extra=extra, metadata=metadata)


def recipe_of(count: int, output: Path, **sections: Any) -> Recipe:
    """A recipe of m objectives, whose model and data are of a hub."""
    recipe = Recipe(
        objectives=NAMES[:count],
        data=DataSettings(source="OWNER/pairs"),
        model=ModelSettings(name="OWNER/model"),
        evaluation=EvaluationSettings(prompts=HOSTILE),
        output=str(output),
    )
    return replace(recipe, **sections)


def write_run(folder: Path, count: int = 2, front: bool = True, intervals: bool = True, **sections: Any) -> Path:
    """A whole run of m objectives."""
    names = NAMES[:count]
    (folder / "adapter").mkdir(parents=True)
    save_recipe(recipe_of(count, folder, **sections), folder / "recipe.yaml")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({**ADAPTER, "base_model": "OWNER/model"}))
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(_TENSORS)
    (folder / "versions.json").write_text(json.dumps({"python": "3.11", "system": "a machine", "records": "abc"}))
    log = [{"step": step, "lr": 1e-3, **{f"loss/{name}": 1 / step for name in names}} for step in (1, 2, 3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    if front:
        made = front_of(count, intervals)
        made.save(folder / "front.json")
        (folder / "front.png").write_bytes(b"a picture")
        entries = [
            {"preference": dict(zip(names, weights, strict=True)), "prompt": prompt, "answer": answer, "tokens": 3}
            for weights in made.preferences.tolist()
            for prompt, answer in zip(HOSTILE, HOSTILE[::-1], strict=True)
        ]
        (folder / "answers.json").write_text(json.dumps(entries, ensure_ascii=False))
        points = [
            {
                "preference": dict(zip(names, weights, strict=True)),
                **{f"loss/{name}": 0.5 for name in names},
                **{f"accuracy/{name}": 0.25 for name in names},
                f"margin/{names[0]}": None,
                "kl": 0.1,
                "sampled_length": 7,
            }
            for weights in made.preferences.tolist()
        ]
        volumes = ((0, None), (2, 0.5), (4, 0.6))
        lines = [json.dumps({"step": step, "hypervolume": volume, "points": points}) for step, volume in volumes]
        (folder / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "data.json").write_text(json.dumps(data_tree(names)))
    return folder


def data_tree(names: tuple[str, ...]) -> dict[str, Any]:
    """What ``data.json`` holds."""
    counts = {"response_0": 19, "response_1": 12}
    labels = [{"name": name, "labelled": 31, "counts": counts, "unlabelled": 9} for name in names]
    lengths = {"part": "prompt", "texts": 40, "median": 7, "longest": 11, "limit": 512, "beyond": None, "at_limit": 0}
    sides = [
        {
            "side": side,
            "records": records,
            "rows": records - 1,
            "prompts": records,
            "summary": f"{records} pairs",
            "labels": labels,
            "responses": {},
            "agreements": [{"names": names[:2], "both": 23, "agree": 17, "conflict": 6}],
            "lengths": [lengths],
        }
        for side, records in (("train", 41), ("held out", 13))
    ]
    left_out = {"<i>empty</i> text": 5}
    load = {"source": "all", "rows": 60, "records": 54, "left_out": left_out, "unlabelled": {"helpful: tie": 4}}
    return {"sides": sides, "leaks": 2, "loads": [load]}


class Page(HTMLParser):
    """An HTML page, parsed: its elements with their attributes, the text by element, and values of ``<data>``."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, text: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", text))

    def values(self) -> list[str]:
        """The values of the elements ``<data>``."""
        return [str(attributes["value"]) for tag, attributes in self.elements if tag == "data"]

    def text(self, *tags: str) -> str:
        """All text, or that right within elements of these names."""
        return "".join(text for tag, text in self.texts if not tags or tag in tags)

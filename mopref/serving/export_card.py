"""The model card of an export: what lies in the folder, how other tools load it, and what its run tells of it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mopref.conditioning.lora_names import SCALES_FILE, SHARED
from mopref.conditioning.preference_gate import GATE_PARTS
from mopref.recipes.front_table import plain_markdown
from mopref.recipes.model_card import CARD_TAGS, linked_base, rendered_card, run_values, versions_text
from mopref.recipes.run_facts import Fact, hub_id, hub_sources, meaning_of_preference
from mopref.recipes.run_files import RunFiles

__all__ = ["ExportContents", "Form", "card_of_adapter", "card_of_run"]

Form = Literal["lora", "lora-grid", "lora-set", "gguf", "merged"]

# What vLLM takes for --max-lora-rank.
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class ExportContents:
    """What an export holds.

    Args:
        form: what was written.
        objectives: their names.
        parts: the folders of a grid or a set, or the files of a GGUF set, in their order; none where it is one model.
        preferences: the fixed λ, ``(N, m)``, one for each part of a grid; none of a set, which holds all.
        rank: the largest rank of a LoRA in it.
        licence: the hub's name of a licence, where one was chosen.
        repo_id: the hub's name of the export, where it goes there.
        scales: of a set, how much of each LoRA is taken at the λ of the examples, by its name, as ``lora_scales`` says.
    """

    form: Form
    objectives: tuple[str, ...]
    parts: tuple[str, ...] = ()
    preferences: Tensor | None = None
    rank: int = 0
    licence: str | None = None
    repo_id: str | None = None
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def directions(self) -> tuple[str, ...]:
        """The folders or files of a set's LoRAs of directions."""
        return self.parts[(SHARED in self.scales) + len(self.objectives) :] if self.scales else ()


def card_of_run(contents: ExportContents, files: RunFiles) -> str:
    """The card of an export of a run, with the run's front, data and recipe."""
    base, recipe = hub_id(files.recipe.model.name), files.recipe
    revision = recipe.model.revision or (files.adapter or {}).get("base_revision")
    told = {"datasets": hub_sources(recipe) or None, "objective": recipe.objective.name}
    return _card(contents, run_values(files), base, revision, told)


def card_of_adapter(contents: ExportContents, description: dict[str, Any]) -> str:
    """The card of an export of an adapter alone, whose description says neither data nor front."""
    name = description.get("base_model")
    base = hub_id(name) if isinstance(name, str) and not description.get("base_is_local") else None
    ranks = f"of rank {description['rank']} + {description['preference_rank']} for each objective"
    values = {
        "facts": [Fact("Model", f"{base or 'a base model of its own'}, frozen, with SVD-LoRA adapters {ranks}")],
        "table": None,
        "has_picture": False,
        "columns": [],
        "intervals": None,
        "hypervolume": None,
        "meaning": meaning_of_preference(
            contents.objectives, str(description.get("preference_convention", "unrecorded"))
        ),
        "recipe": None,
        "data": [],
        "measured": "The adapter was exported without its run: its data, its training and its front are told there.",
        "versions": versions_text(description.get("versions") or {}),
    }
    return _card(contents, values, base, description.get("base_revision"), {})


def _card(
    contents: ExportContents, values: dict[str, Any], base: str | None, revision: Any, told: dict[str, Any]
) -> str:
    is_merged, is_gguf = contents.form == "merged", contents.form == "gguf"
    relation = "finetune" if is_merged else "adapter"
    kinds = [] if is_merged else ["lora", *(["gguf", "llama.cpp"] if is_gguf else [])]
    front_matter = {
        "base_model": base,
        "base_model_relation": None if base is None else relation,
        "library_name": None if is_gguf else "transformers" if is_merged else "peft",
        "pipeline_tag": "text-generation",
        "license": contents.licence,
        "datasets": told.get("datasets"),
        "tags": [*CARD_TAGS, *kinds, *([told["objective"]] if "objective" in told else [])],
    }
    commit = revision if base is not None and isinstance(revision, str) else None
    own = {
        "title": plain_markdown(_title(contents)),
        "what": _what(contents, linked_base(base)),
        "use": list(_use(contents, base, commit)),
        "licence": contents.licence,
        "has_base": is_merged,
    }
    return rendered_card("export_card.md.jinja", front_matter, {**values, **own})


def _balance(contents: ExportContents, weights: Sequence[float]) -> str:
    return ", ".join(f"{name} {weight:.4g}" for name, weight in zip(contents.objectives, weights, strict=True))


def _title(contents: ExportContents) -> str:
    names = ", ".join(contents.objectives)
    if contents.preferences is not None and not contents.parts:
        return f"One balance of {names}: λ = ({_balance(contents, contents.preferences[0].tolist())})"
    if contents.preferences is not None:
        count = len(contents.parts)
        return f"{count} balances of {names}, a LoRA for each" if count > 1 else f"One balance of {names}, as a LoRA"
    return f"LoRAs for every balance of {names}"


def _what(contents: ExportContents, base: str) -> str:
    """What lies in the folder."""
    if contents.form == "merged":
        return f"{base[0].upper()}{base[1:]} with the change at this λ in its weights: a plain model, fixed at it."
    if contents.form == "lora":
        return f"A plain LoRA of rank {contents.rank} for {base}, fixed at this λ; the base model is not in it."
    listed = "\n".join(_listed(contents))
    if contents.form == "lora-grid":
        what = f"A folder for each λ with a plain LoRA of rank {contents.rank} for {base}, which is not in it:"
        return f"{what}\n\n{listed}"
    return f"{_told_set(contents, base)}:\n\n{listed}"


def _told_set(contents: ExportContents, base: str) -> str:
    """What a set is, and how it makes the model."""
    held, terms = ["one LoRA for each objective"], ["λ_i times the LoRA of objective i"]
    if SHARED in contents.scales:
        held, terms = ["what all preferences share", *held], [f"all of `{SHARED}`", *terms]
    if contents.directions:
        held, terms = [*held, "one for each direction"], [*terms, "δ_j(λ) times that of direction j"]
    what = held[0] if len(held) == 1 else f"{', '.join(held[:-1])}, and {held[-1]}"
    told = f"{what[0].upper()}{what[1:]}, for {base}, which is not in it. The model at λ is the base plus "
    told += f"{' plus '.join(terms)}, exactly"
    if not contents.directions:
        return told
    parts = ", ".join(f"{letter} is `{part}`" for letter, part in zip("DAb", GATE_PARTS, strict=True))
    centred = f"{len(contents.objectives)}·λ − 1"
    return f"{told}, with δ(λ) = D · tanh(A ({centred}) + b) of the numbers in `{SCALES_FILE}`, where {parts}"


def _listed(contents: ExportContents) -> Iterator[str]:
    if contents.preferences is not None:
        for part, weights in zip(contents.parts, contents.preferences.tolist(), strict=True):
            yield f"* {plain_markdown(part)}: λ = ({plain_markdown(_balance(contents, weights))})"
        return
    for part, name in zip(contents.parts, contents.scales, strict=True):
        if part not in contents.directions:
            yield f"* {plain_markdown(part)}: times {'1' if name == SHARED else f'λ of {plain_markdown(name)}'}"
    if contents.directions:
        yield f"* {contents.directions[0]} to {contents.directions[-1]}: each times its own δ_j(λ)"


def _use(contents: ExportContents, base: str | None, revision: str | None) -> Iterator[str]:
    """Sentences and blocks of code, by which other tools load what is in the folder."""
    if contents.form == "gguf":
        yield from _llama_cpp(contents)
        return
    yield "```python\n" + "\n".join(_python(contents, base, revision)) + "\n```"
    if contents.form == "lora-set":
        yield (
            f"Those weights are of λ = ({plain_markdown(_balance(contents, _example(contents)))}); "
            f"`mopref.serving.lora_scales(folder, λ)` reads them for any other from `{SCALES_FILE}`. "
            'No other `combination_type` will do: PEFT\'s default, "svd", gives another model, without an error. A '
            "server that scales each LoRA by request serves every λ from this folder; for one that takes a single LoRA "
            "a request, such as vLLM, export one λ or a grid of them."
        )
    elif contents.form != "merged":
        yield from _vllm(contents, base)


def _python(contents: ExportContents, base: str | None, revision: str | None) -> Iterator[str]:
    # JSON's texts are Python's, too.
    quoted, is_merged = json.dumps, contents.form == "merged"
    if contents.repo_id is not None:
        yield "from huggingface_hub import snapshot_download"
    if not is_merged:
        yield "from peft import PeftModel"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    here = 'folder = "."  # the folder of this card'
    yield here if contents.repo_id is None else f"folder = snapshot_download({quoted(contents.repo_id)})"
    if is_merged:
        yield "model = AutoModelForCausalLM.from_pretrained(folder)"
        yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
        return
    at = "" if revision is None else f", revision={quoted(revision)}"
    yield 'base = "…"  # the folder or hub id of the base model' if base is None else f"base = {quoted(base)}"
    yield f"tokenizer = AutoTokenizer.from_pretrained(base{at})"
    yield f"model = AutoModelForCausalLM.from_pretrained(base{at})"
    if contents.form == "lora-set":
        yield from _combined(contents)
    elif contents.form == "lora-grid":
        yield f"model = PeftModel.from_pretrained(model, folder + {quoted(f'/{contents.parts[0]}')})  # or another λ"
    else:
        yield "model = PeftModel.from_pretrained(model, folder)"


def _combined(contents: ExportContents) -> Iterator[str]:
    """PEFT's combination of a set that is exact."""
    quoted, directions = json.dumps, contents.directions
    own = contents.parts[: len(contents.parts) - len(directions)]
    names = list(_peft_names(own))
    first, *others = zip(names, own, strict=True)
    place = quoted(f"/{first[1]}")
    yield f"model = PeftModel.from_pretrained(model, folder + {place}, adapter_name={quoted(first[0])})"
    for name, part in others:
        yield f"model.load_adapter(folder + {quoted(f'/{part}')}, adapter_name={quoted(name)})"
    listed = quoted(names)
    if directions:
        yield f'directions = [f"direction-{{number}}" for number in range(1, {len(directions) + 1})]'
        yield "for name in directions:"
        yield '    model.load_adapter(f"{folder}/{name}", adapter_name=name)'
        listed = f"[{listed[1:-1]}, *directions]"
    what = "1 for what all share, and then λ" if SHARED in contents.scales else "λ"
    yield f"weights = {_rounded(contents)}  # {what}{', and then δ(λ)' if directions else ''}"
    yield f'model.add_weighted_adapter({listed}, weights, "balanced", combination_type="cat")'
    yield 'model.set_adapter("balanced")'


def _peft_names(names: Sequence[str]) -> Iterator[str]:
    """Names for PEFT, which makes attributes of them beside its own, and takes a second one for the first."""
    taken: set[str] = set()
    for name in names:
        own = f"lora_{name.replace('.', '_')}"
        while own in taken:
            own += "_"
        taken.add(own)
        yield own


def _example(contents: ExportContents) -> list[float]:
    """The λ of the examples."""
    return [contents.scales[name] for name in contents.objectives]


def _rounded(contents: ExportContents) -> list[float]:
    """The scales, to what float32 holds of them."""
    return [float(f"{scale:.7g}") for scale in contents.scales.values()]


def _vllm(contents: ExportContents, base: str | None) -> Iterator[str]:
    rank = next((rank for rank in _VLLM_RANKS if rank >= contents.rank), None)
    if rank is None:
        yield f"vLLM takes LoRAs up to rank {_VLLM_RANKS[-1]}, and not {contents.rank}: it serves a merged model."
        return
    name = contents.parts[0] if contents.parts else "adapter"
    path = "FOLDER" + (f"/{contents.parts[0]}" if contents.parts else "")
    module = shlex.quote(json.dumps({"name": name, "path": path}, ensure_ascii=False))
    several = (
        "; more of them stand behind it, and `--max-loras` says how many a batch may have" if contents.parts else ""
    )
    yield f"vLLM, where a request names its LoRA as its model{several}:"
    yield (
        f"```bash\nvllm serve {shlex.quote(base or 'BASE')} --enable-lora --max-lora-rank {rank} "
        f"--lora-modules {module}\n```"
    )


def _llama_cpp(contents: ExportContents) -> Iterator[str]:
    scales = [{"id": place, "scale": scale} for place, scale in enumerate(_rounded(contents))]
    body = json.dumps({"prompt": "…", "n_predict": 64, "lora": scales}, ensure_ascii=False)
    files = shlex.quote(",".join(contents.parts))
    balance = plain_markdown(_balance(contents, _example(contents)))
    yield f"llama.cpp, with the base model as a GGUF file; each request says the scales of its λ, here ({balance}):"
    yield (
        f"```bash\nllama-server -m BASE.gguf --lora {files} --lora-init-without-apply\n"
        f"curl http://127.0.0.1:8080/completion -d {shlex.quote(body)}\n```"
    )
    yield (
        "Every LoRA must be in the list: one that is not counts 0. `mopref.serving.request_scales(λ, scales=folder)` "
        f"makes it from `{SCALES_FILE}`."
    )

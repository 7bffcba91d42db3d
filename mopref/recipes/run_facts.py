"""What a run is, in words: the lines that its report and its model card begin with, and what λ means in it."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from mopref.llm.data.loaders import LOADERS
from mopref.recipes.front_table import FrontTable
from mopref.recipes.part_options import parameters_of
from mopref.recipes.recipe import PartSettings, Recipe
from mopref.recipes.rows import KINDS
from mopref.recipes.run_files import RunFiles

__all__ = [
    "Fact",
    "example_preference",
    "example_weights",
    "facts",
    "hub_id",
    "hub_sources",
    "interval_sentence",
    "portable_recipe",
    "preference_convention",
    "preference_sentences",
]


class Fact(NamedTuple):
    """A line of what a run is."""

    label: str
    text: str


def facts(files: RunFiles) -> list[Fact]:
    """Model, data and training, a line each."""
    told = portable_recipe(files.recipe)
    return [Fact("Model", _model(files.recipe)), Fact("Data", _data(files)), Fact("Training", _training(told))]


def _model(recipe: Recipe) -> str:
    model, adapter = recipe.model, recipe.adapter
    name = "SmolLM2-135M-Instruct" if model.name == "demo" else hub_id(model.name) or Path(model.name).name
    revision = "" if model.revision is None else f", revision {model.revision}"
    weights = "" if model.quantization is None else f", in {model.quantization}"
    ranks = f"SVD-LoRA adapters of rank {adapter.rank} + {adapter.preference_rank} for each objective"
    return f"{name}{revision}{weights}, frozen, with {ranks}"


def _data(files: RunFiles) -> str:
    data = files.recipe.data
    sources = hub_sources(files.recipe) or [Path(name).name for name in _texts(data.source)]
    origin = f"{' and '.join(sources)}, by the loader {data.loader}" if sources else f"the loader {data.loader}"
    if files.data is None:
        return origin
    kind = KINDS[files.recipe.objective.name].records if files.recipe.objective.name in KINDS else "records"
    counts = ", ".join(
        f"{side.records} {kind} {'to train on' if side.side == 'train' else 'held out'}" for side in files.data.sides
    )
    return f"{origin}: {counts}"


def _training(recipe: Recipe) -> str:
    training = recipe.training
    length = f"{training.steps} steps" if training.epochs is None else f"{training.epochs:g} epochs"
    rows = training.batch_size * training.gradient_accumulation_steps
    parts = f"{_part(recipe.objective)}; scalarizer {_part(recipe.scalarizer)}; sampler of λ {_part(recipe.sampler)}"
    return f"{parts}; {length} of {rows} rows, seed {recipe.seed}"


def _part(part: PartSettings) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in part.options.items())
    return f"{part.name} ({options})" if options else part.name


def _texts(tree: Any) -> Iterator[str]:
    """The texts in a setting that may be a mapping."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree


def hub_id(name: str) -> str | None:
    """The name where it is a hub's, as ``OWNER/NAME`` or a name alone; nothing where it is a path.

    Example:
        >>> hub_id("Qwen/Qwen2.5-0.5B"), hub_id("/models/mine"), hub_id("records.jsonl"), hub_id("demo")
        ('Qwen/Qwen2.5-0.5B', None, None, None)
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    from mopref.llm.data.loaders.files import file_kind

    path = Path(name)
    if name == "demo" or path.is_absolute() or path.exists() or name.startswith((".", "~")) or file_kind(name):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def hub_sources(recipe: Recipe) -> list[str]:
    """The data sets of a hub that the data come from, the loader's own included; each once."""
    named = [*_texts(recipe.data.source), *_texts(recipe.data.test_source)]
    if recipe.data.source is None and recipe.data.loader in LOADERS:
        parameters = parameters_of(LOADERS[recipe.data.loader])
        own = [parameters[name].default for name in ("source", "sources", "path") if name in parameters]
        named = [*(name for name in own if name is not Parameter.empty and isinstance(name, str)), *named]
    # A name without an owner is a hub's only for a few old data sets, and more often a folder that is gone.
    return list(dict.fromkeys(name for name in named if "/" in name and hub_id(name)))


def portable_recipe(recipe: Recipe) -> Recipe:
    """The recipe as others may read it: of paths only their last name, and without the prompts of the evaluation."""

    def told(tree: Any) -> Any:
        if isinstance(tree, Mapping):
            return {name: told(value) for name, value in tree.items()}
        if isinstance(tree, str) and (Path(tree).is_absolute() or tree.startswith(("~", "./", "../"))):
            return Path(tree).name
        return tree

    data = {name: told(getattr(recipe.data, name)) for name in ("source", "test_source", "options", "test_options")}
    model = {name: told(getattr(recipe.model, name)) for name in ("name", "tokenizer")}
    return replace(
        recipe,
        data=replace(recipe.data, **data),
        model=replace(recipe.model, **model),
        rewards={name: PartSettings(**told(asdict(reward))) for name, reward in recipe.rewards.items()},
        objective=PartSettings(**told(asdict(recipe.objective))),
        evaluation=replace(recipe.evaluation, prompts=()),
        output=Path(recipe.output).name,
    )


def preference_convention(files: RunFiles) -> str:
    """What λ says in this run, as its front, its adapter or its scalarizer tells: "importance", "ray", "unrecorded"."""
    if files.front is not None:
        return files.front.convention
    if files.adapter is not None:
        return str(files.adapter.get("preference_convention", "unrecorded"))
    return str(files.recipe.scalarizer.options.get("convention", "importance"))


def preference_sentences(files: RunFiles) -> list[str]:
    """What λ means in this run."""
    recipe = files.recipe
    is_reward = recipe.objective.name in KINDS and KINDS[recipe.objective.name].front == "rewards"
    what, better = ("reward", "higher") if is_reward else ("loss", "lower")
    names = ", ".join(recipe.objectives)
    first = f"λ holds a weight for each objective ({names}); the weights are at least 0 and sum to 1."
    asks = {
        "importance": (
            f"λ_i is the importance of objective i: the larger it is, the {better} the {what} of objective i that the "
            "model was trained to reach, at the expense of the others."
        ),
        "ray": (
            "λ is a ray: the losses were to lie along it, so a larger λ_i asks for a LARGER loss of objective i, and "
            "for less of that objective."
        ),
    }
    unknown = "Nobody recorded whether a larger λ_i asks for a smaller or a larger loss of objective i."
    last = (
        f"The scalarizer {_part(recipe.scalarizer)} made one loss of all; any λ can be asked for, also those that were "
        "not drawn in training."
    )
    return [first, asks.get(preference_convention(files), unknown), last]


def interval_sentence(table: FrontTable) -> str | None:
    """What the intervals of a table are; nothing where it has none."""
    if not table.has_intervals:
        return None
    level = "" if table.level is None else f"{100 * table.level:g} % "
    return (
        f"Beside a mean stands its {level}interval over the held-out prompts: it tells how far other prompts would "
        "have moved it, not what another seed would have trained."
    )


def example_preference(names: tuple[str, ...]) -> str:
    """A preference as the command line takes it, the first objective foremost.

    Example:
        >>> example_preference(("helpful", "harmless")), example_preference(("a", "b", "c", "so so"))
        ('helpful=0.7,harmless=0.3', "'a=0.5,b=0.16,c=0.16,so so=0.18'")
    """
    text = ",".join(f"{name}={weight:g}" for name, weight in zip(names, example_weights(len(names)), strict=True))
    return shlex.quote(text)


def example_weights(count: int) -> list[float]:
    """Weights of few decimals that sum to 1, the first one foremost.

    Example:
        >>> example_weights(2), example_weights(3), example_weights(4)
        ([0.7, 0.3], [0.5, 0.25, 0.25], [0.5, 0.16, 0.16, 0.18])
    """
    if count <= 2:
        return [1.0] if count == 1 else [0.7, 0.3]
    # Rounded down, so that something is left for the last one.
    part = (500 // (count - 1) if count > 11 else 10 * (50 // (count - 1))) / 1000
    return [0.5, *[part] * (count - 2), round(0.5 - part * (count - 2), 3)]

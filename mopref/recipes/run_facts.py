"""What a run is, in words: the lines that its report and its model card begin with, what λ and the columns mean."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from mopref.llm.data.loaders import LOADERS
from mopref.recipes.front_table import FrontTable
from mopref.recipes.mistakes import RecipeError
from mopref.recipes.part_options import parameters_of
from mopref.recipes.recipe import EvaluationSettings, PartSettings, Recipe
from mopref.recipes.rows import KINDS
from mopref.recipes.run_files import RunFiles
from mopref.recipes.typed import typed

__all__ = [
    "Fact",
    "column_meanings",
    "example_preference",
    "example_weights",
    "facts",
    "hub_id",
    "hub_sources",
    "interval_sentence",
    "meaning_of_preference",
    "outdated_sentence",
    "portable_recipe",
    "preference_convention",
    "preference_sentences",
    "selection_sentence",
]


class Fact(NamedTuple):
    """A line of what a run is."""

    label: str
    text: str


def facts(files: RunFiles) -> list[Fact]:
    """Model, data and training, a line each, and the adapter where it is not simply that of the last step."""
    adapter = _adapter(files)
    lines = [Fact("Model", _model(files.recipe)), Fact("Data", _data(files)), Fact("Training", _training(files))]
    return lines if adapter is None else [*lines, Fact("Adapter", adapter)]


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


def _training(files: RunFiles) -> str:
    recipe, trained = portable_recipe(files.recipe), files.steps
    training = recipe.training
    if training.epochs is not None:
        length = (
            f"{training.epochs:g} epochs"
            if trained is None
            else f"{training.epochs:g} epochs asked for, {trained} steps"
        )
    else:
        length = (
            f"{training.steps} steps" if trained in (None, training.steps) else f"{trained} of {training.steps} steps"
        )
    rows = training.batch_size * training.gradient_accumulation_steps
    parts = f"{_part(recipe.objective)}; scalarizer {_part(recipe.scalarizer)}; sampler of λ {_part(recipe.sampler)}"
    return f"{parts}; {length} of {rows} rows, seed {recipe.seed}"


def _adapter(files: RunFiles) -> str | None:
    """Of which step the adapter is, where that is not simply the last one."""
    step, steps, is_chosen = files.adapter_step, files.steps, files.recipe.monitoring.keep_best
    if files.adapter is None or (not is_chosen and step in (None, steps)):
        return None
    what = "a step that is not recorded" if step is None else f"step {step}"
    if steps is not None and step is not None:
        what += f", the last of {steps}" if step == steps else f" of the {steps} that were trained"
    return f"of {what}" + (", at which the held-out hypervolume was largest" if is_chosen else "")


def outdated_sentence(files: RunFiles) -> str | None:
    """That the front is of another step than the adapter, as where a run was resumed and not measured again."""
    measured = None if files.front is None else files.front.metadata.get("step")
    if files.adapter is None or files.adapter_step is None or measured in (None, files.adapter_step):
        return None
    return (
        f"The front was measured at step {measured}, and the adapter is of step {files.adapter_step}: it is outdated."
    )


def selection_sentence(files: RunFiles) -> str | None:
    """How the held-out rows that the front is measured on had a say in the training; nothing where they had none."""
    monitoring = files.recipe.monitoring
    if files.adapter is None or not (monitoring.keep_best or monitoring.patience):
        return None
    rows = "the same held-out rows as" if monitoring.rows is None else "held-out rows that are among those of"
    how = (
        "The adapter was chosen among those of several steps (monitoring.keep_best)"
        if monitoring.keep_best
        else "When the training ended was decided (monitoring.patience)"
    )
    return (
        f"{how} by its hypervolume on {rows} the front's figures, which flatters these somewhat: expect slightly worse "
        "ones on rows that had no say in it."
    )


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


def _told(tree: Any) -> Any:
    """Settings with only the last name of every path."""
    if isinstance(tree, Mapping):
        return {name: _told(value) for name, value in tree.items()}
    if isinstance(tree, str) and (Path(tree).is_absolute() or tree.startswith(("~", "./", "../"))):
        return Path(tree).name
    return tree


def portable_recipe(recipe: Recipe) -> Recipe:
    """The recipe as others may read it: of paths only their last name, and without the prompts of the evaluation."""
    judges = {name: PartSettings(**_told(asdict(judge))) for name, judge in recipe.evaluation.judges.items()}
    data = {name: _told(getattr(recipe.data, name)) for name in ("source", "test_source", "options", "test_options")}
    model = {name: _told(getattr(recipe.model, name)) for name in ("name", "tokenizer")}
    return replace(
        recipe,
        data=replace(recipe.data, **data),
        model=replace(recipe.model, **model),
        rewards={name: PartSettings(**_told(asdict(reward))) for name, reward in recipe.rewards.items()},
        objective=PartSettings(**_told(asdict(recipe.objective))),
        evaluation=replace(recipe.evaluation, prompts=(), judges=judges),
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
    reached = f"the {'higher' if is_reward else 'lower'} the {'reward' if is_reward else 'loss'} of objective i that"
    last = (
        f"The scalarizer {_part(recipe.scalarizer)} made one loss of all; any λ can be asked for, also those that were "
        "not drawn in training."
    )
    pull = recipe.pull
    of_pull = [] if pull is None else [f"{pull} is the pull to the base model: the larger its λ, the nearer to it."]
    return [*meaning_of_preference(recipe.objectives, preference_convention(files), reached), *of_pull, last]


def meaning_of_preference(
    names: Sequence[str], convention: str, reached: str = "the more of objective i that"
) -> list[str]:
    """What λ means by a convention, and which end of it nobody should be given unasked.

    Args:
        names: the objectives'.
        convention: "importance", "ray" or "unrecorded".
        reached: what of objective i there is more of with a larger λ_i.
    """
    first = f"λ holds a weight for each objective ({', '.join(names)}); the weights are at least 0 and sum to 1."
    worst = (
        "that model is deliberately worse by it, and where the objective stands for safety, less safe than the others."
    )
    asks = {
        "importance": (
            f"λ_i is the importance of objective i: the larger it is, {reached} the model was trained to reach, at the "
            f"expense of the others. At λ_i = 0 objective i counted for nothing: {worst} Offer λ from a least weight "
            "of such an objective on."
        ),
        "ray": (
            "λ is a ray: the losses were to lie along it, so a larger λ_i asks for a LARGER loss of objective i, and "
            f"for less of that objective. At λ_i = 1 it asks for the least of objective i: {worst} Offer λ up to a "
            "largest weight of such an objective."
        ),
    }
    unknown = "Nobody recorded whether a larger λ_i asks for a smaller or a larger loss of objective i."
    return [first, asks.get(convention, unknown)]


def interval_sentence(table: FrontTable) -> str | None:
    """What the intervals of a table are; nothing where it has none."""
    if not table.has_intervals:
        return None
    level = "" if table.level is None else f"{100 * table.level:g} % "
    return (
        f"Beside a mean stands its {level}interval over the held-out prompts: it tells how far other prompts would "
        "have moved it, not what another seed would have trained."
    )


def column_meanings(files: RunFiles) -> list[Fact]:
    """What the columns of the front's table mean, those that it has; nothing where there is no front."""
    if files.front is None:
        return []
    names, evaluation = files.front.names, _evaluation(files)
    kind = KINDS.get(files.recipe.objective.name)
    is_reward = kind is not None and kind.front == "rewards"
    records = "rows" if kind is None else kind.records
    labelled = " labelled on it" if records in ("pairs", "unpaired answers") else ""
    one_each = f"sampled answers to {_sampled(files, evaluation)} held-out prompts, one each"
    sampled = "the sampled answers that the rewards are of" if is_reward else one_each
    value = (
        "mean reward of each objective over sampled answers to the held-out prompts"
        if is_reward
        else f"mean {files.recipe.objective.name} loss of each objective over the held-out {records}{labelled}"
    )
    accuracy = (
        "share of the held-out answers with a margin above 0: good ones above KTO's reference point, bad ones below; "
        "a draw counts ½"
        if records == "unpaired answers"
        else "share of the held-out pairs with a margin above 0, the implicit reward of the preferred response "
        "less that of the other one; a draw counts ½"
    )
    greedy = f"the greedy answers to the {len(evaluation.prompts)} prompts of the recipe (evaluation.prompts)"
    meanings = {
        "accuracy": accuracy,
        "margin": "mean implicit reward of the preferred response less that of the other one, over the held-out pairs",
        "standard_error": "standard error of an objective's mean reward, over the held-out prompts",
        "kl": "KL divergence from the base model, in nats for an answer: an estimate, which may come out below 0, "
        f"from {sampled}",
        "sampled_length": f"mean length in tokens of {one_each}",
        "mean_response_length": f"mean length in tokens of {sampled if is_reward else greedy}",
        "truncated": "share of the sampled answers that were cut at the length limit",
    }
    rates = {f"win_rate_{name}": _win_rate(evaluation, name, one_each) for name in names}
    found = {column: _column_kind(column, names) for column in files.front.extra}
    pull = files.recipe.pull
    lines = [Fact(", ".join(name for name in names if name != pull), value)]
    lines += [] if pull is None else [Fact(pull, f"−KL from the base model, in nats for an answer, from {sampled}")]
    lines += [Fact(key.replace("_", " "), text) for key, text in meanings.items() if key in found.values()]
    return lines + [Fact(key.replace("_", " "), text) for key, text in rates.items() if key in found]


def _column_kind(column: str, names: tuple[str, ...]) -> str:
    """``accuracy`` of ``accuracy_helpful``; the whole name of a column that is not of one objective."""
    return next((column.removesuffix(f"_{name}") for name in names if column.endswith(f"_{name}")), column)


def _evaluation(files: RunFiles) -> EvaluationSettings:
    """What the front was measured by: it may be another evaluation than the recipe's own."""
    assert files.front is not None
    try:
        measured: EvaluationSettings = typed(files.front.metadata["recipe"]["evaluation"], EvaluationSettings, "")
    except (KeyError, TypeError, RecipeError):
        return files.recipe.evaluation
    return measured


def _sampled(files: RunFiles, evaluation: EvaluationSettings) -> str:
    """How many held-out prompts are answered by sampling: fewer than asked for where there are fewer."""
    count = evaluation.sampled_prompts
    sides = [side for side in files.data.sides if side.side == "held out"] if files.data is not None else []
    if not sides:
        return f"up to {count}"
    # Of rows that are left out, nobody counted the prompts.
    most, least = sides[0].prompts, sides[0].prompts - (sides[0].records - sides[0].rows)
    return str(min(count, most)) if min(count, most) <= least else f"up to {min(count, most)}"


def _win_rate(evaluation: EvaluationSettings, name: str, sampled: str) -> str:
    judge = evaluation.judges.get(name)
    by = "a judge" if judge is None else f"the judge {_part(PartSettings(**_told(asdict(judge))))}"
    return f"share of {sampled}, that {by} prefers to the base model's; asked in both orders, a draw counts ½"


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

"""The page itself: what is on it, and what happens where something is moved or pressed.

All that belongs to a visitor, λ, the dialogue and the choices, is in the state of their session.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mopref.serving.page.choosing import Choices, answered, begun, question_markup, verdict
from mopref.serving.page.conversation import Asker, Question
from mopref.serving.page.front_picture import front_markup
from mopref.serving.page.matter import PageMatter
from mopref.serving.page.simplex import bounds, centre, corner, moved, nearest
from mopref.serving.page.texts import (
    Turn,
    answers_markup,
    dialogue_markup,
    escaped,
    preference_text,
    problem_markup,
)
from mopref.serving.page.triangle import triangle_script, triangle_template
from mopref.serving.terms import Terms

__all__ = ["make_blocks"]

_LONGEST_PROMPT = 20_000
_YOURS = "yours"
# Of a slider: nobody means more than hundredths.
_STEP = 0.01


@dataclass(frozen=True)
class _Controls:
    """What λ is chosen by."""

    sliders: list[Any]
    triangle: Any | None
    strength: Any
    tokens: Any
    temperature: Any
    chosen: Any
    told: Any


def make_blocks(asker: Asker, terms: Terms, matter: PageMatter) -> Any:
    """The page of a served model.

    Args:
        asker: asks the worker.
        terms: what may be asked.
        matter: what is shown beside.
    """
    page = _Page(asker, terms, matter)
    with gr.Blocks(title=f"{terms.name} · mopref", analytics_enabled=False) as blocks:
        gr.HTML(page.lead(), padding=False)
        with gr.Row(elem_classes="halves"):
            with gr.Column(scale=2, min_width=320):
                controls = page.controls()
            with gr.Column(scale=3, min_width=320), gr.Tabs():
                with gr.Tab("Chat"):
                    page.chat(controls)
                with gr.Tab("Side by side"):
                    page.side_by_side(controls)
                with gr.Tab("Front"):
                    front = page.front(controls)
                with gr.Tab("Find yours"):
                    page.choosing(controls, front)
        page.connect(controls, front)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def _event(component: Any, handler: Any, inputs: Any, outputs: Any, **more: Any) -> Any:
    """What happens at an event, with no door of its own for programs: these have the API."""
    return component(handler, inputs, outputs, api_visibility="private", show_progress="hidden", **more)


def _slider(low: float, high: float, **more: Any) -> Any:
    """A slider that takes a number beyond its ends for the nearer end, where Gradio's own would fail.

    A class of its own would do, but Gradio writes a file beside whatever derives from its components.
    """
    made: Any = gr.Slider(low, high, **more)

    def number(payload: Any) -> float:
        try:
            return min(max(float(payload), low), high)
        except (TypeError, ValueError):
            return float(low)

    made.preprocess = number
    return made


class _Page:
    def __init__(self, asker: Asker, terms: Terms, matter: PageMatter) -> None:
        self._asker, self._terms, self._matter = asker, terms, matter
        self._names = terms.objectives
        self._minimums = tuple(terms.minimums.get(name, 0.0) for name in self._names)
        self._begin = centre(self._minimums)

    def lead(self) -> str:
        """What this is."""
        return (
            f'<div class="lead"><h1>{escaped(self._terms.name)}</h1><p>One model for every balance of '
            f"{escaped(', '.join(self._names[:-1]))} and {escaped(self._names[-1])}: choose yours, and ask.</p></div>"
        )

    # -- λ --

    def controls(self) -> _Controls:
        """Sliders for λ, a triangle for three objectives, and how answers are made."""
        chosen = gr.State(self._begin)
        with gr.Group():
            sliders = [
                _slider(low, high, value=weight, step=_STEP, label=name, interactive=high - low > _STEP, info=info)
                for name, weight, (low, high), info in zip(
                    self._names, self._shown(self._begin), bounds(self._minimums), self._infos(), strict=True
                )
            ]
        triangle = None
        if len(self._names) == 3:
            triangle = gr.HTML(
                list(self._begin),
                html_template=triangle_template(self._names, self._minimums),
                js_on_load=triangle_script(),
                elem_id="triangle",
            )
        told = gr.HTML(self._told(self._begin), elem_id="chosen")
        least, most = self._terms.strengths
        with gr.Accordion("How answers are made", open=False):
            strength = _slider(
                least,
                most if most > least else least + 1,
                value=1.0,
                step=0.05,
                label="strength",
                info="what the training's change is multiplied with: 1 as it was trained, 0 the base model"
                if most > least
                else "1, as it was trained: with least weights it is fixed",
                interactive=most > least,
            )
            tokens = _slider(
                1, self._terms.max_new_tokens, value=min(256, self._terms.max_new_tokens), step=1, label="most tokens"
            )
            temperature = _slider(
                0,
                2,
                value=0,
                step=0.05,
                label="temperature",
                info="0: the likeliest answer, so that λ alone changes it",
            )
        return _Controls(sliders, triangle, strength, tokens, temperature, chosen, told)

    def _infos(self) -> list[str | None]:
        return [f"at least {least:g}, by the operator" if least > 0 else None for least in self._minimums]

    def _told(self, weights: Sequence[float]) -> str:
        return f'<p class="hint">Your λ: <strong>{escaped(preference_text(self._names, weights))}</strong></p>'

    def connect(self, controls: _Controls, front: Any) -> None:
        """Let sliders, triangle, λ and the front follow each other."""
        for place, slider in enumerate(controls.sliders):

            def slide(value: float, weights: Any, place: int = place) -> list[Any]:
                after = moved(weights, place, value, self._minimums)
                shown: list[Any] = self._shown(after)
                # Who drags it holds it.
                shown[place] = gr.skip()
                return [*shown, *([list(after)] if controls.triangle else []), *self._follow(after)]

            outputs = [*controls.sliders, *([controls.triangle] if controls.triangle else [])]
            outputs += [controls.chosen, controls.told, front]
            _event(slider.input, slide, [slider, controls.chosen], outputs, trigger_mode="always_last")
        if controls.triangle is not None:

            def drag(weights: Any, before: Any) -> list[Any]:
                after = nearest([float(weight) for weight in weights], self._minimums) if len(weights) == 3 else before
                return [*self._shown(after), *self._follow(after)]

            outputs = [*controls.sliders, controls.chosen, controls.told, front]
            inputs = [controls.triangle, controls.chosen]
            _event(controls.triangle.input, drag, inputs, outputs, trigger_mode="always_last")

    def _follow(self, weights: tuple[float, ...]) -> list[Any]:
        return [weights, self._told(weights), self._front(weights)]

    def _set(self, controls: _Controls, weights: tuple[float, ...]) -> list[Any]:
        """All that shows λ, set to it."""
        return [*self._shown(weights), *([list(weights)] if controls.triangle else []), *self._follow(weights)]

    def _shown(self, weights: Sequence[float]) -> list[float]:
        """λ as sliders show it: in hundredths, within their bounds."""
        limits = bounds(self._minimums)
        return [min(max(round(weight, 2), low), high) for weight, (low, high) in zip(weights, limits, strict=True)]

    # -- the front --

    def front(self, controls: _Controls) -> Any:
        """The run's front with λ marked."""
        return gr.HTML(self._front(self._begin), elem_id="front")

    def _front(self, weights: Sequence[float]) -> str:
        if self._matter.front is None:
            return f'<p class="hint">{escaped(self._matter.no_front)}</p>'
        return front_markup(self._matter.front, weights)

    # -- the chat --

    def chat(self, controls: _Controls) -> None:
        """A dialogue with answers that grow, each at the λ of its moment."""
        turns = gr.State([])
        dialogue = gr.HTML(dialogue_markup([]), elem_id="dialogue")
        problem = gr.HTML("", elem_id="chat-problem")
        prompt = gr.Textbox(
            label="Ask the model", lines=2, max_lines=8, max_length=_LONGEST_PROMPT, elem_id="prompt", submit_btn=False
        )
        with gr.Row():
            send = gr.Button("Send", variant="primary", elem_id="send", min_width=80)
            stop = gr.Button("Stop", elem_id="stop", min_width=80)
            clear = gr.Button("Begin anew", elem_id="clear", min_width=80)
        inputs = [prompt, turns, controls.chosen, controls.strength, controls.tokens, controls.temperature]
        outputs = [dialogue, turns, prompt, problem]
        asked = [
            _event(each, self._answered, inputs, outputs, trigger_mode="once") for each in (send.click, prompt.submit)
        ]
        gr.on([stop.click], None, None, None, cancels=asked)
        gr.on(
            [clear.click],
            lambda: (dialogue_markup([]), [], "", ""),
            None,
            outputs,
            cancels=asked,
            api_visibility="private",
            show_progress="hidden",
        )

    async def _answered(
        self, prompt: str, turns: list[Turn], weights: Any, strength: float, tokens: int, temperature: float
    ) -> AsyncIterator[tuple[Any, ...]]:
        if not prompt.strip():
            yield dialogue_markup(turns), turns, prompt, problem_markup("There is no question yet: write one.")
            return
        messages = [
            message
            for turn in turns
            for message in ({"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer})
        ]
        messages.append({"role": "user", "content": prompt})
        question = Question(messages, tuple(weights), strength, int(tokens), temperature)
        heading = preference_text(self._names, weights)
        heading += f", strength {strength:g}" if strength != 1 else ""
        turn, part = Turn(prompt, "", heading), None
        yield dialogue_markup([*turns, turn], True), turns, "", ""
        try:
            async for (part,) in self._asker.ask([question]):
                turn = Turn(prompt, part.text, heading)
                kept = [*turns, turn] if part.text else turns
                yield dialogue_markup([*turns, turn], not part.is_over), kept, gr.skip(), ""
        except Exception as error:  # A visitor is told of any, and never by a traceback.
            yield dialogue_markup(turns), turns, prompt, problem_markup(self._asker.sentence(error))
            return
        if part is not None and part.problem:
            kept = [*turns, turn] if part.text else turns
            yield dialogue_markup(kept), kept, gr.skip() if part.text else prompt, problem_markup(part.problem)

    # -- side by side --

    def side_by_side(self, controls: _Controls) -> None:
        """One prompt under several λ at once."""
        spots = self._spots()
        gr.HTML('<p class="hint">One question, answered under several balances at once.</p>')
        prompt = gr.Textbox(label="Ask all of them", lines=2, max_lines=8, max_length=_LONGEST_PROMPT)
        names = [_YOURS, *spots]
        at = gr.CheckboxGroup(names, value=names[:5], label="at", elem_id="spots")
        ask = gr.Button("Ask", variant="primary", elem_id="ask-all")
        problem = gr.HTML("", elem_id="all-problem")
        answers = gr.HTML("", elem_id="answers")
        inputs = [prompt, at, controls.chosen, controls.strength, controls.tokens, controls.temperature]
        for each in (ask.click, prompt.submit):
            _event(each, self._compared, inputs, [answers, problem], trigger_mode="once")

    def _spots(self) -> dict[str, tuple[float, ...]]:
        """λ by name: the corners that bounds leave, the middle, and the operator's presets."""
        spots = {f"most {name}": corner(place, self._minimums) for place, name in enumerate(self._names)}
        spots["the middle"] = self._begin
        return spots | {name: tuple(p) for name, p in self._terms.presets.items() if name not in ("balanced", *spots)}

    async def _compared(
        self, prompt: str, at: list[str], weights: Any, strength: float, tokens: int, temperature: float
    ) -> AsyncIterator[tuple[Any, ...]]:
        known = {_YOURS: tuple(weights), **self._spots()}
        chosen = [(name, known[name]) for name in at if name in known]
        if not prompt.strip() or not chosen:
            what = "question yet: write one" if chosen else "balance yet: choose one"
            yield gr.skip(), problem_markup(f"There is no {what}.")
            return
        messages = [{"role": "user", "content": prompt}]
        questions = [Question(messages, point, strength, int(tokens), temperature) for _, point in chosen]
        headings = [(name, preference_text(self._names, point)) for name, point in chosen]
        try:
            async for parts in self._asker.ask(questions):
                yield answers_markup(headings, parts), ""
        except Exception as error:  # As in the chat.
            yield gr.skip(), problem_markup(self._asker.sentence(error))

    # -- which do you prefer? --

    def choosing(self, controls: _Controls, front: Any) -> None:
        """Eight questions, then λ and its region, and a button that takes it."""
        pairs = self._matter.pairs
        if pairs is None:
            gr.HTML(f'<p class="hint">{escaped(self._matter.no_pairs)}</p>', elem_id="question")
            return
        choices, found = gr.State(Choices()), gr.State(None)
        told = (
            "Choose between two answers, some times over, and see which balance is yours. Your choices stay in this "
            "visit, and nobody else sees them. Answers are from data, and may be harmful."
        )
        shown = gr.HTML(f'<h3>Which do you prefer?</h3><p class="hint">{told}</p>', elem_id="question")
        with gr.Row():
            take = gr.Button("Set the sliders to it", variant="primary", visible=False, elem_id="take", min_width=120)
            begin = gr.Button("Begin", variant="primary", elem_id="begin", min_width=120)
            first = gr.Button("I prefer A", visible=False, elem_id="prefer-a", min_width=120)
            second = gr.Button("I prefer B", visible=False, elem_id="prefer-b", min_width=120)
        outputs = [choices, found, shown, begin, first, second, take]

        def step(after: Choices) -> list[Any]:
            if after.asked is not None:
                button, chosen = gr.Button(visible=False), gr.Button(visible=True)
                return [after, None, question_markup(pairs, after), button, chosen, chosen, gr.Button(visible=False)]
            said, hidden = verdict(pairs, after, self._minimums), gr.Button(visible=False)
            again = gr.Button("Begin again", variant="secondary", visible=True)
            return [after, said.preference, said.markup, again, hidden, hidden, gr.Button(visible=True)]

        _event(begin.click, lambda: step(begun(pairs)), None, outputs, trigger_mode="once")
        for button, is_second in ((first, False), (second, True)):

            def prefer(before: Choices, is_second: bool = is_second) -> list[Any]:
                return step(answered(pairs, before, is_second))

            _event(button.click, prefer, [choices], outputs, trigger_mode="once")

        def set_all(preference: Any, before: Any) -> list[Any]:
            return self._set(controls, tuple(preference or before))

        everything = [*controls.sliders, *([controls.triangle] if controls.triangle else [])]
        everything += [controls.chosen, controls.told, front]
        _event(take.click, set_all, [found, controls.chosen], everything)

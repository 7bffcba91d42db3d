"""From what a visitor asks to answers that grow: several of them, if wanted, in one batch of the worker."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import NamedTuple

from pydantic import ValidationError

from mopref.serving.answer_text import AnswerText
from mopref.serving.answering import Answer, FailedError
from mopref.serving.decoding import DecodingRequest
from mopref.serving.forms import ChatForm
from mopref.serving.reception import Reception
from mopref.serving.terms import RefusedError
from mopref.serving.waiting_room import BusyError, Ticket
from mopref.serving.worker import Worker

__all__ = ["Asker", "Part", "Question"]

_log = logging.getLogger(__name__)


class Question(NamedTuple):
    """What is asked, and how.

    Attributes:
        messages: the dialogue, each message as ``{"role": …, "content": …}``; the last one is the visitor's.
        preference: λ, in the order of the objectives.
        strength: what ΔW is multiplied with.
        max_tokens: the most tokens of the answer; what is left of the context, where that is less.
        temperature: 0 for the likeliest answer.
    """

    messages: list[dict[str, str]]
    preference: tuple[float, ...]
    strength: float = 1.0
    max_tokens: int = 256
    temperature: float = 0.0


@dataclass
class Part:
    """One of the answers, as far as it is there.

    Attributes:
        text: of the answer.
        is_over: whether no more will come.
        problem: why there is no more, in a sentence.
    """

    text: str = ""
    is_over: bool = False
    problem: str | None = None


class _Gathered:
    """Takes tickets, which are handed to a worker at once afterwards."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def submit(self, *tickets: Ticket) -> None:
        self.tickets += tickets


class Asker:
    """Asks the worker for visitors of the page.

    Args:
        worker: answers.
        reception: says what may be asked.
        seconds: the most that an answer takes, waiting included.
        readers: the thread in which prompts are laid out.
    """

    def __init__(self, worker: Worker, reception: Reception, seconds: float, readers: Executor) -> None:
        self._worker, self._reception = worker, reception
        self._seconds, self._readers = seconds, readers

    async def ask(self, questions: Sequence[Question]) -> AsyncIterator[list[Part]]:
        """All answers each time that one of them has grown, until all are over; they begin together.

        Raises:
            RefusedError, BusyError: one of the questions is not answered, and so none is.
        """
        if len(questions) > max(1, places := self._worker.room.places):
            raise RefusedError(
                400, f"{len(questions)} answers are asked for at once, and {places} may wait: ask for fewer."
            )
        gathered, answers = _Gathered(), []
        requests = [await self._request(question) for question in questions]
        for request in requests:
            text = AnswerText(self._reception.pairs.tokenizer)
            answers.append(Answer(gathered, request, text, self._seconds, in_pieces=True))
        self._worker.submit(*gathered.tickets)
        parts, changed = [Part() for _ in answers], asyncio.Event()
        tasks = [
            asyncio.create_task(self._read(answer, part, changed)) for answer, part in zip(answers, parts, strict=True)
        ]
        try:
            is_over = False
            while not is_over:
                await changed.wait()
                changed.clear()
                # Looked at before it is shown: what comes meanwhile is shown once more.
                is_over = all(part.is_over for part in parts)
                yield parts
        finally:
            # Also where the visitor is gone: the rows leave the batch.
            for answer, task in zip(answers, tasks, strict=True):
                answer.leave()
                task.cancel()

    async def _request(self, question: Question) -> DecodingRequest:
        try:
            form = ChatForm.model_validate(
                {
                    "messages": question.messages,
                    "preference": list(question.preference),
                    "strength": question.strength,
                    "temperature": question.temperature,
                }
            )
        except ValidationError as error:
            problem = error.errors()[0]
            raise RefusedError(422, f"{problem['loc'][0]}: {problem['msg']}.") from None
        request = await asyncio.get_running_loop().run_in_executor(self._readers, self._reception.request, form)
        # What a slider allows may be more than this prompt leaves.
        return replace(request, max_new_tokens=max(1, min(request.max_new_tokens, question.max_tokens)))

    async def _read(self, answer: Answer, part: Part, changed: asyncio.Event) -> None:
        try:
            async for piece in answer.pieces():
                part.text += piece
                changed.set()
        except Exception as error:  # Whatever it is, the visitor waits for the end.
            part.problem = self.sentence(error)
        finally:
            part.is_over = True
            changed.set()

    def sentence(self, error: Exception) -> str:
        """What a visitor is told of an error, without anything of the machine's."""
        if isinstance(error, RefusedError):
            return _sentence(error.sentence)
        if isinstance(error, FailedError):
            return _sentence(error.failure.sentence)
        if isinstance(error, BusyError):
            if not self._worker.is_alive:
                return "The server is being shut down, and answers nothing any more."
            wait = self._worker.retry_after
            return f"The server is busy, and as many wait as it takes: ask again in {wait} second{'s' * (wait > 1)}."
        _log.error("the page failed on a request", exc_info=error)
        return "The page failed on this; the server's log says how. Others are served on."


def _sentence(text: str) -> str:
    """A text of the server's as a sentence.

    Example:
        >>> _sentence("the prompt is empty.")
        'The prompt is empty.'
    """
    return text[:1].upper() + text[1:]

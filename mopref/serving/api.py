"""The HTTP interface: OpenAI's chat completions, each under its own preference."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from mopref.serving.answer_text import AnswerText
from mopref.serving.answering import Answer, FailedError
from mopref.serving.forms import ChatAnswer, ChatForm, ErrorBody, Health, ModelEntry, ModelList, error_body, stop_texts
from mopref.serving.malformed import malformation
from mopref.serving.reception import Reception
from mopref.serving.stream_events import Heading, stream_events, whole_answer
from mopref.serving.terms import RefusedError
from mopref.serving.waiting_room import BusyError
from mopref.serving.worker import Worker

__all__ = ["make_app"]

_Result = TypeVar("_Result")
_BUSY = "the server is busy, and as many requests wait as it takes: ask again after the seconds of Retry-After."
_KINDS = {400: "invalid_request_error", 403: "permission_error", 404: "not_found_error", 422: "invalid_request_error"}
# In place of the framework's own words.
_SENTENCES = {
    400: "the body cannot be read: send JSON in UTF-8, not nested deeply.",
    404: "nothing is here: ask POST /v1/chat/completions, GET /v1/models or GET /health.",
    405: "this address takes another method: ask POST /v1/chat/completions, GET /v1/models or GET /health.",
}
_DESCRIPTIONS = {
    400: "What was asked cannot be, in a sentence.",
    401: "The token is missing or wrong.",
    403: "The operator's bounds forbid it.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    421: "Another host was asked for.",
    422: "A field is missing, unknown or of another kind.",
    500: "The model failed on this request, or on one beside it.",
    503: "Too many requests wait: ask again after Retry-After.",
}


def make_app(worker: Worker, reception: Reception, seconds: float = 300.0) -> FastAPI:
    """The application, which starts the worker and closes it.

    Args:
        worker: answers.
        reception: says what may be asked.
        seconds: the most that a request takes, waiting included.
    """
    readers = ThreadPoolExecutor(1, thread_name_prefix="mopref-tokens")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.close)
        readers.shutdown(wait=False, cancel_futures=True)

    # No page of documentation: it would fetch scripts from elsewhere.
    app = FastAPI(title="mopref", version=version("mopref"), docs_url=None, redoc_url=None, lifespan=lifespan)
    # One thread for whoever lays out prompts, as tokenizers want it.
    app.state.readers = readers
    _add_handlers(app, worker, reception)
    _add_facts(app, worker, reception)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text} for status, text in _DESCRIPTIONS.items()
    }
    streamed = {"description": "The answer, or its pieces as they come.", "content": {"text/event-stream": {}}}

    @app.post("/v1/chat/completions", response_model=ChatAnswer, responses={200: streamed, **responses})
    async def chat_completion(form: ChatForm, asker: Request) -> Any:
        """An answer to a dialogue, under the preference that the request gives."""
        if worker.is_full:
            raise BusyError
        # In a thread of its own, and one at a time, as tokenizers want it.
        request = await asyncio.get_running_loop().run_in_executor(readers, reception.request, form)
        text = AnswerText(reception.pairs.tokenizer, stop := stop_texts(form))
        answer = Answer(worker, request, text, seconds, in_pieces=form.stream or bool(stop))
        heading = Heading(
            f"chatcmpl-{uuid.uuid4().hex}",
            int(time.time()),
            reception.terms.name,
            reception.terms.by_name(request.preference),
            len(request.prompt_ids),
        )
        pieces = answer.pieces()
        try:
            if not form.stream:
                content = await _unless_gone(asker, _joined(pieces))
                return whole_answer(heading, content, answer)
            # Before the first piece a failure has a status of its own.
            first = await _unless_gone(asker, anext(pieces, ""))
        except BaseException:
            answer.leave()
            raise
        with_usage = form.stream_options is not None and form.stream_options.include_usage
        events = stream_events(heading, first, pieces, answer, with_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    return app


def _add_facts(app: FastAPI, worker: Worker, reception: Reception) -> None:
    """What the server is, and how it is."""
    terms, since = reception.terms, int(time.time())
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]} for status in (401, 408, 413, 421)
    }

    @app.get("/v1/models", response_model=ModelList, responses=refused)
    async def models() -> ModelList:
        """The model, and what may be asked of it."""
        entry = ModelEntry(
            id=terms.name,
            created=since,
            objectives=list(terms.objectives),
            minimums=dict(terms.minimums),
            presets={name: terms.by_name(weights) for name, weights in terms.presets.items()},
            strength=terms.strengths,
            context=terms.context,
            max_tokens=terms.max_new_tokens,
        )
        return ModelList(data=[entry])

    of_health: dict[int | str, dict[str, Any]] = {
        **{status: refused[status] for status in (408, 413, 421)},
        503: {"model": Health, "description": "It answers nothing any more."},
    }

    @app.get("/health", response_model=Health, responses=of_health)
    async def health() -> Any:
        """How the server is; needs no token."""
        state = Health(status="ok" if worker.is_alive else "closed", answering=worker.rows, waiting=len(worker.room))
        return state if worker.is_alive else JSONResponse(state.model_dump(), status_code=503)


def _add_handlers(app: FastAPI, worker: Worker, reception: Reception) -> None:
    """Every refusal in one form."""

    def later() -> dict[str, str]:
        return {"Retry-After": str(worker.retry_after)}

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return _refusal(error.status, error.sentence, param=error.param)

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> Response:
        return _refusal(503, _BUSY, code="busy", headers=later())

    @app.exception_handler(FailedError)
    async def failed(_: Request, error: FailedError) -> Response:
        kind, sentence = error.failure
        is_fault = kind == "failed"
        return _refusal(500 if is_fault else 503, sentence, code=kind, headers=None if is_fault else later())

    @app.exception_handler(_GoneError)
    async def gone(_: Request, error: _GoneError) -> Response:
        # Nobody reads it.
        return Response(status_code=499)

    @app.exception_handler(RequestValidationError)
    async def malformed(asker: Request, error: RequestValidationError) -> Response:
        example = f"{reception.terms.example}, numbers which sum to 1, or a preset's name"
        told = malformation(error.errors(), error.body, asker.headers.get("content-type"), example)
        return _refusal(422, told.sentence, param=told.param)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return _refusal(error.status_code, _SENTENCES.get(error.status_code, f"{error.detail}."), headers=error.headers)

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return _refusal(500, "the server failed on this request; its log says how.")


def _refusal(
    status: int, sentence: str, param: str | None = None, code: str | None = None, headers: Any = None
) -> Response:
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return JSONResponse(error_body(sentence, kind, param, code), status_code=status, headers=headers)


class _GoneError(Exception):
    """The client hung up."""


async def _unless_gone(asker: Request, work: Awaitable[_Result]) -> _Result:
    """The work's result, unless the client hangs up before.

    Raises:
        _GoneError: it did.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_until_gone(asker))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _GoneError
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _until_gone(asker: Request) -> None:
    while (await asker.receive())["type"] != "http.disconnect":
        pass


async def _joined(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])

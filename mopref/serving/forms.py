"""What a client sends and gets: OpenAI's form of a chat, with a preference.

A field that is not here is refused and not passed over, so that nobody believes in a setting that does nothing.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

__all__ = [
    "ChatAnswer",
    "ChatForm",
    "ErrorBody",
    "Health",
    "Message",
    "ModelList",
    "error_body",
    "stop_texts",
]

_Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200_000)]
_Stop: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
_Weight: TypeAlias = FiniteFloat


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Message(_Form):
    """One message of a dialogue."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class StreamOptions(_Form):
    """What a stream holds beside its pieces."""

    include_usage: bool = False


class ChatForm(_Form):
    """A request for an answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "Hello"}], "preference": "balanced", "max_tokens": 16}
            ]
        }
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    preference: dict[str, _Weight] | Annotated[list[_Weight], Field(max_length=1000)] | str = Field(
        description="λ: a weight ≥ 0 for each objective, by name or in order, that sum to 1, or a preset's name."
    )
    model: str | None = None
    strength: Annotated[_Weight, Field(ge=0, le=2)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[_Weight, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[_Weight, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1


class Usage(BaseModel):
    """Tokens of a prompt and of its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str


class AnswerChoice(BaseModel):
    """The only choice of an answer."""

    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]


class ChatAnswer(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: Usage
    preference: dict[str, float]


class ModelEntry(BaseModel):
    """The model, and what may be asked of it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["mopref"] = "mopref"
    objectives: list[str]
    minimums: dict[str, float]
    presets: dict[str, dict[str, float]]
    strength: tuple[float, float]
    context: int
    max_tokens: int


class ModelList(BaseModel):
    """The models that are served: one."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Health(BaseModel):
    """How the server is."""

    status: Literal["ok", "closed"]
    answering: int
    waiting: int


class ErrorEntry(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """A refusal, in OpenAI's form."""

    error: ErrorEntry


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """A refusal as JSON; halves of characters, which JSON cannot hold, are written as escapes."""
    text = message.encode("utf-8", "backslashreplace").decode("utf-8")
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def stop_texts(form: ChatForm) -> tuple[str, ...]:
    """The texts that end an answer."""
    return (form.stop,) if isinstance(form.stop, str) else tuple(form.stop or ())

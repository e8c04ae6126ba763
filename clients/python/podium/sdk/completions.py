"""Chat completions over HTTP, as any OpenAI-compatible endpoint speaks them, read as they come.

Needs aiohttp, which the extra `llm` of the package brings.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import orjson

from podium.sdk.errors import Final, Retryable, TaskError

EVENT_BYTES_MAX = 1024 * 1024
BODY_BYTES_MAX = 8 * 1024 * 1024
STREAM_BYTES_MAX = 64 * 1024 * 1024
"""Of an answer that comes in events, each of which is some hundred bytes around a word."""
MESSAGE_LEN_MAX = 500
NAMES_MAX = 5
DONE = b"[DONE]"
"""What ends an event stream that is whole."""
RETRY_AFTER_S_MAX = 3600.0
"""Who asks for more would silence an agent for ever by a slip of the pen."""


class Unavailable(Retryable):
    """The endpoint takes nothing for a while: others may, so the task is tried elsewhere.

    Args:
        message: for people.
        retry_after_s: when it may be asked again.
        reason: LLM_RATE_LIMITED, LLM_UNAUTHORIZED or LLM_QUOTA_SPENT.
    """

    def __init__(self, message: str, retry_after_s: float, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class Delta(NamedTuple):
    """A piece of the answer."""

    text: str


class Tokens(NamedTuple):
    """What the endpoint says that it read and wrote; comes once, after the pieces."""

    input: int
    output: int


class Cut(NamedTuple):
    """The answer ends at a limit of tokens, not where the model would have ended it."""


Part = Delta | Tokens | Cut


@dataclass(frozen=True)
class Endpoint:
    """Where the model is.

    Args:
        base_url: up to and with /v1, for example "http://127.0.0.1:8080/v1".
        api_key: sent as a bearer token; "" = none.
        connect_s: how long a connection may take.
        idle_s: longest silence, before the first event as well as between two. Comments that keep
            the connection alive are silence.
        retry_after_s: pause after a 429 that names none.
        account_pause_s: pause after it refused the key, or said that the account is empty.
    """

    base_url: str
    api_key: str = ""
    connect_s: float = 10.0
    idle_s: float = 60.0
    retry_after_s: float = 5.0
    account_pause_s: float = 60.0

    def open(self) -> aiohttp.ClientSession:
        """Returns a session of HTTP connections to it."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self.connect_s, sock_read=self.idle_s
        )
        # The handlers' number bounds the connections.
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)

    async def complete(
        self, session: aiohttp.ClientSession, request: Mapping[str, Any]
    ) -> AsyncGenerator[Part, None]:
        """Yields the answer to a chat completion as it comes.

        Leaving the iteration closes the connection, and the endpoint stops.

        Args:
            session: of `open`.
            request: the body, as the API defines it; streaming is added.

        Raises:
            Unavailable: LLM_RATE_LIMITED, LLM_UNAUTHORIZED, LLM_QUOTA_SPENT.
            Retryable: LLM_UNREACHABLE, LLM_TIMEOUT, LLM_UNAVAILABLE, LLM_INTERRUPTED.
            Final: LLM_REFUSED, LLM_FILTERED, LLM_TOOL_CALLED.
        """
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        url = self.base_url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        reading = _Reading()
        try:
            async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                async for event in _events(response, self.idle_s):
                    if event is DONE:
                        reading.done = True
                        continue
                    for part in reading.take(self._checked(event)):
                        yield part
            for part in reading.end():
                yield part
        except (TimeoutError, aiohttp.ClientError) as error:
            for part in reading.spent():
                yield part
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> TaskError:
        if isinstance(error, TimeoutError):
            message = f"the endpoint was silent for {self.idle_s:g} s"
            return Retryable(message, reason="LLM_TIMEOUT")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Retryable(f"cannot reach {self.base_url}", reason="LLM_UNREACHABLE")
        if isinstance(error, aiohttp.InvalidURL):
            return Final(f"{self.base_url!r} is not a URL", reason="LLM_REFUSED")
        message = "the connection broke before the answer was complete"
        return Retryable(message, reason="LLM_INTERRUPTED")

    def _checked(self, event: Any) -> Mapping[str, Any]:
        if not isinstance(event, dict):
            raise Retryable("the endpoint sent no JSON object", reason="LLM_INTERRUPTED")
        error = event.get("error")
        if error:
            # Some endpoints answer 200 and then find that they cannot.
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) else 500
            raise self._error(status, error, None)
        return event

    async def _refusal(self, response: aiohttp.ClientResponse) -> TaskError:
        data = await _body(response)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            body = data.decode(errors="replace")
        error = body.get("error", body) if isinstance(body, dict) else body
        return self._error(response.status, error, response.headers.get("Retry-After"))

    def _error(self, status: int, error: Any, retry_after: str | None) -> TaskError:
        fields = error if isinstance(error, dict) else {"message": error}
        said = str(fields.get("message") or "no reason given")[:MESSAGE_LEN_MAX]
        message = f"the endpoint answered {status}: {said}"
        codes = {str(fields.get("code")), str(fields.get("type"))}
        if "insufficient_quota" in codes:
            return Unavailable(message, self.account_pause_s, "LLM_QUOTA_SPENT")
        if status == 429 or codes & {"rate_limit_exceeded", "rate_limit_error"}:
            wait_s = wait_of(retry_after, self.retry_after_s)
            return Unavailable(message, wait_s, "LLM_RATE_LIMITED")
        if status in (401, 403):
            # The key's fault, not the task's: an agent with another key can do it.
            return Unavailable(message, self.account_pause_s, "LLM_UNAUTHORIZED")
        if status in (408, 409, 425) or status >= 500:
            if retry_after is not None:
                wait_s = wait_of(retry_after, self.retry_after_s)
                return Unavailable(message, wait_s, "LLM_RATE_LIMITED")
            return Retryable(message, reason="LLM_UNAVAILABLE")
        return Final(message, reason="LLM_REFUSED")


def wait_of(retry_after: str | None, default_s: float) -> float:
    """Returns how long a Retry-After header asks to wait; an hour at most."""
    if retry_after is None:
        return default_s
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(retry_after).timestamp()
        except ValueError:
            return default_s
        wait_s = when - time.time_ns() / 1e9
    # NaN is no time either.
    return min(max(0.0, wait_s), RETRY_AFTER_S_MAX) if wait_s == wait_s else default_s


class _Reading:
    """Understands the events of one answer."""

    def __init__(self) -> None:
        self.done = False
        self._finished = ""
        self._spoke = False
        self._refusal = ""
        self._called: dict[str, None] = {}
        self._tokens: Tokens | None = None

    def take(self, event: Mapping[str, Any]) -> list[Part]:
        parts: list[Part] = []
        for choice in _list(event.get("choices")):
            choice = _object(choice)
            # Endpoints that do not stream answer with a message instead of deltas.
            said = _object(choice.get("delta") or choice.get("message") or {})
            if text := said.get("content"):
                if not isinstance(text, str):
                    raise _unclear()
                parts.append(Delta(text))
                self._spoke = True
            self._note_unanswered(said)
            if reason := choice.get("finish_reason"):
                self._finished = str(reason)
                if reason == "content_filter":
                    raise Final("the endpoint withheld the answer", reason="LLM_FILTERED")
        if usage := event.get("usage"):
            # Of a count that runs along with the pieces the last one is the whole.
            counts = [_object(usage).get(name) for name in ("prompt_tokens", "completion_tokens")]
            self._tokens = Tokens(*map(_count, counts))
        return parts

    def _note_unanswered(self, said: Mapping[str, Any]) -> None:
        """Notes what a model says in place of an answer: that it will not, or needs a tool."""
        self._refusal = (self._refusal + str(said.get("refusal") or ""))[:MESSAGE_LEN_MAX]
        calls = [
            _object(_object(call).get("function") or {}) for call in _list(said.get("tool_calls"))
        ]
        calls += [_object(said["function_call"])] if said.get("function_call") else []
        # Only the first piece of a call names it.
        self._called |= dict.fromkeys(str(call.get("name") or "") for call in calls)

    def spent(self) -> list[Part]:
        """Returns what has been counted so far."""
        return [self._tokens] if self._tokens is not None else []

    def end(self) -> Iterator[Part]:
        """Yields what comes after the pieces."""
        yield from self.spent()
        if self._called or self._finished in ("tool_calls", "function_call"):
            # No tool was offered to it, so nobody would run it.
            names = ", ".join([name[:64] for name in self._called if name][:NAMES_MAX])
            message = f"the model calls a tool instead of answering: {names or 'it names none'}"
            raise Final(message, reason="LLM_TOOL_CALLED")
        if self._refusal:
            raise Final(f"the model refuses: {self._refusal}", reason="LLM_FILTERED")
        # Not every endpoint says why an answer ends: whoever says that the stream is whole means
        # that it has ended by itself. One that breaks says neither.
        if not self._finished and not (self.done and self._spoke):
            message = "the answer ended in the middle"
            raise Retryable(message, reason="LLM_INTERRUPTED")
        if self._finished == "length":
            yield Cut()


def _unclear() -> Retryable:
    return Retryable("the endpoint's answer is not of the API's form", reason="LLM_INTERRUPTED")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unclear()
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise _unclear()
    return value or []


def _count(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _unclear()
    return int(value)


async def _events(response: aiohttp.ClientResponse, idle_s: float) -> AsyncIterator[Any]:
    """Yields the JSON of each server-sent event and DONE; of a plain JSON answer, the answer."""
    if response.content_type == "application/json":
        yield _json(await _body(response))
        return
    lines = _lines(response)
    while True:
        # Not the connection's own timeout: comments that keep it alive are silence all the same.
        async with asyncio.timeout(idle_s):
            data = await _data(lines)
        if data is None:
            return
        if data == DONE:
            yield DONE
            return
        yield _json(data)


async def _data(lines: AsyncIterator[bytes]) -> bytes | None:
    """Returns what the next event says; None at the end."""
    parts: list[bytes] = []
    size = 0
    async for line in lines:
        if line.startswith(b"data:"):
            parts.append(line[5:].removeprefix(b" "))
            size += len(line)
            if size > EVENT_BYTES_MAX:
                raise _too_much("an event", EVENT_BYTES_MAX)
        elif not line and parts:
            return b"\n".join(parts)
        # Anything else is a comment that keeps the connection alive, or a field not used here.
    return None


def _too_much(what: str, bytes_max: int) -> Retryable:
    message = f"{what} of the endpoint has more than {bytes_max} bytes"
    return Retryable(message, reason="LLM_INTERRUPTED")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise _too_much("the answer", BODY_BYTES_MAX)
    return bytes(body)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the lines of a body, without their ends, and an empty one at its end."""
    rest, size = b"", 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > STREAM_BYTES_MAX:
            raise _too_much("the answer", STREAM_BYTES_MAX)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > EVENT_BYTES_MAX:
            raise _too_much("an event", EVENT_BYTES_MAX)
    yield rest.removesuffix(b"\r")
    yield b""


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Retryable("the endpoint sent no JSON", reason="LLM_INTERRUPTED") from None

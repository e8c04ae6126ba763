"""Chat completions over HTTP, as any OpenAI-compatible endpoint speaks them, read as they come.

Needs aiohttp: ``pip install 'podium[llm]'``.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import orjson

from podium.sdk.errors import Final, Retryable, TaskError

EVENT_BYTES_MAX = 1024 * 1024
BODY_BYTES_MAX = 8 * 1024 * 1024
MESSAGE_LEN_MAX = 500


class RateLimited(Retryable):
    """The endpoint takes no more for now.

    Args:
        message: for people.
        retry_after_s: when it may be asked again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, reason="LLM_RATE_LIMITED")
        self.retry_after_s = retry_after_s


class Delta(NamedTuple):
    """A piece of the answer."""

    text: str


class Tokens(NamedTuple):
    """What the endpoint says that it read and wrote; comes once, after the pieces."""

    input: int
    output: int


@dataclass(frozen=True)
class Endpoint:
    """Where the model is.

    Args:
        base_url: up to and with /v1, for example "http://127.0.0.1:8080/v1".
        api_key: sent as a bearer token; "" = none.
        connect_s: how long a connection may take.
        idle_s: longest silence, before the first piece as well as between two.
        retry_after_s: pause after a 429 that names none.
    """

    base_url: str
    api_key: str = ""
    connect_s: float = 10.0
    idle_s: float = 60.0
    retry_after_s: float = 5.0

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
    ) -> AsyncGenerator[Delta | Tokens, None]:
        """Yields the answer to a chat completion as it comes.

        Leaving the iteration closes the connection, and the endpoint stops.

        Args:
            session: of `open`.
            request: the body, as the API defines it; streaming is added.

        Raises:
            RateLimited: 429.
            Retryable: LLM_UNREACHABLE, LLM_TIMEOUT, LLM_UNAVAILABLE, LLM_INTERRUPTED.
            Final: LLM_UNAUTHORIZED, LLM_QUOTA_SPENT, LLM_REFUSED, LLM_FILTERED.
        """
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        url = self.base_url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        try:
            async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                reading = _Reading()
                async for event in _events(response):
                    for part in reading.take(self._checked(event)):
                        yield part
                reading.end()
        except TimeoutError:
            message = f"the endpoint was silent for {self.idle_s:g} s"
            raise Retryable(message, reason="LLM_TIMEOUT") from None
        except aiohttp.ClientConnectorError:
            message = f"cannot reach {self.base_url}"
            raise Retryable(message, reason="LLM_UNREACHABLE") from None
        except aiohttp.InvalidURL:
            message = f"{self.base_url!r} is not a URL"
            raise Final(message, reason="LLM_REFUSED") from None
        except aiohttp.ClientError:
            message = "the connection broke before the answer was complete"
            raise Retryable(message, reason="LLM_INTERRUPTED") from None

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
            return Final(message, reason="LLM_QUOTA_SPENT")
        if status == 429 or codes & {"rate_limit_exceeded", "rate_limit_error"}:
            return RateLimited(message, wait_of(retry_after, self.retry_after_s))
        if status in (401, 403):
            return Final(message, reason="LLM_UNAUTHORIZED")
        if status in (408, 409, 425) or status >= 500:
            if retry_after is not None:
                return RateLimited(message, wait_of(retry_after, self.retry_after_s))
            return Retryable(message, reason="LLM_UNAVAILABLE")
        return Final(message, reason="LLM_REFUSED")


def wait_of(retry_after: str | None, default_s: float) -> float:
    """Returns how long a Retry-After header asks to wait, in seconds or as a date."""
    if retry_after is None:
        return default_s
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except ValueError:
        return default_s
    return max(0.0, when - time.time_ns() / 1e9)


class _Reading:
    """Understands the events of one answer."""

    def __init__(self) -> None:
        self._finished = False

    def take(self, event: Mapping[str, Any]) -> list[Delta | Tokens]:
        parts: list[Delta | Tokens] = []
        for choice in event.get("choices") or ():
            # Endpoints that do not stream answer with a message instead of deltas.
            said = choice.get("delta") or choice.get("message") or {}
            if text := said.get("content"):
                parts.append(Delta(text))
            if reason := choice.get("finish_reason"):
                self._finished = True
                if reason == "content_filter":
                    raise Final("the endpoint withheld the answer", reason="LLM_FILTERED")
        if usage := event.get("usage"):
            tokens = Tokens(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
            parts.append(tokens)
        return parts

    def end(self) -> None:
        if not self._finished:
            message = "the answer ended in the middle"
            raise Retryable(message, reason="LLM_INTERRUPTED")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """Yields the JSON of each server-sent event; of a plain JSON answer, the answer."""
    if response.content_type == "application/json":
        yield _json(await _body(response))
        return
    lines: list[bytes] = []
    async for line in _lines(response):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            data = b"\n".join(lines)
            lines = []
            if data == b"[DONE]":
                return
            yield _json(data)
        # Anything else is a comment that keeps the connection alive, or a field not used here.


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            message = f"the answer of the endpoint has more than {BODY_BYTES_MAX} bytes"
            raise Retryable(message, reason="LLM_INTERRUPTED")
    return bytes(body)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the lines of a body, without their ends, and an empty one at its end."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > EVENT_BYTES_MAX:
            message = f"an event of the endpoint has more than {EVENT_BYTES_MAX} bytes"
            raise Retryable(message, reason="LLM_INTERRUPTED")
    yield rest.removesuffix(b"\r")
    yield b""


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Retryable("the endpoint sent no JSON", reason="LLM_INTERRUPTED") from None

"""What all commands share: running, errors with exit codes, JSON for programs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console

from podium.sdk.client import Client
from podium.sdk.errors import NotFound, PodiumError, Unavailable
from podium.sdk.settings import Settings
from podium.sdk.wire import new_loop

T = TypeVar("T")

FAILED = 1
UNREACHABLE = 3
NOT_FOUND = 4
INTERRUPTED = 130
TERMINATED = 143
# A person waits for the answer: the SDK's own patience is for programs.
PATIENCE_S = 2.0

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

WIDE = 10_000
"""Columns of what other programs read: nothing is cut for them, unless COLUMNS asks for it."""
_narrow = sys.stdout.isatty() or "COLUMNS" in os.environ

console = Console(highlight=False, width=None if _narrow else WIDE)
errors = Console(stderr=True, highlight=False)


def run(work: Callable[[Client], Awaitable[T]], *, as_json: bool = False) -> T:
    """Runs a command's work with a client and returns what it returns.

    Errors of the suite end the process with one sentence and the exit code that says which kind.
    """

    async def with_client() -> T:
        settings = Settings.from_environment()
        async with Client(settings, inline=True, patience_s=PATIENCE_S) as client:
            return await work(client)

    return run_loop(with_client, as_json=as_json)


def run_loop(work: Callable[[], Awaitable[T]], *, as_json: bool = False) -> T:
    """As `run`, without a client."""
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_awaited(work))
    except PodiumError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    """Does the work; told to end (SIGTERM), lets it put its things in order as Ctrl-C does."""
    task, ended = asyncio.current_task(), asyncio.Event()
    assert task is not None

    def end() -> None:
        ended.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        return await work()
    except asyncio.CancelledError:
        if ended.is_set():
            raise typer.Exit(TERMINATED) from None
        raise


def fail(error: PodiumError, *, as_json: bool = False) -> NoReturn:
    """Tells what went wrong and ends with the exit code of its kind."""
    if as_json:
        told = {
            "code": error.code,
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
            "violations": [violation._asdict() for violation in error.violations],
            "retry_after_s": error.retry_after_s,
        }
        sys.stderr.write(orjson.dumps({"error": told}).decode() + "\n")
    else:
        errors.print(
            f"[bold red]error:[/] {_plain(str(error))} [dim]({error.reason})[/]", soft_wrap=True
        )
        if error.retry_after_s:
            errors.print(f"Try again in {error.retry_after_s:g} s.")
    if isinstance(error, Unavailable):
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(NOT_FOUND if isinstance(error, NotFound) else FAILED)


def wrong_usage(sentence: str) -> NoReturn:
    """Ends with exit code 2 and what is wrong."""
    raise typer.BadParameter(sentence)


def print_json(value: Any) -> None:
    """Prints a value, or a message as its JSON mapping, on one line."""
    if isinstance(value, Message):
        value = as_dict(value)
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")
    sys.stdout.flush()


def as_dict(message: Message) -> dict[str, Any]:
    """Returns the JSON mapping of a message."""
    return MessageToDict(message)


def _plain(text: str) -> str:
    # Rich reads [brackets] as markup; what others wrote must not be able to say anything in it.
    return text.replace("[", r"\[")


def plain(text: str, limit: int = 0) -> str:
    """Returns text of others, safe to print: no markup, no control characters, cut to length."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    if limit and len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return _plain(shown)

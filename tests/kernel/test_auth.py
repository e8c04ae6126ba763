from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kernel import auth
from services.kernel.auth import (
    ANONYMOUS,
    Principal,
    acting_as,
    admission,
    current_principal,
    current_recheck,
)
from services.kernel.clock import ManualClock
from services.kernel.config import Common
from services.kernel.errors import FailedPrecondition, Unauthenticated
from services.kernel.rpc import Guard, from_rpc_error
from tests.kernel.keys import NOW_S, make_key, publish, token
from tests.kernel.toy import WAYS, Stub, Toy, path, text

KEY = make_key()
POLICY = {path("Unary"): "agent", path("Down"): "operator"}


@pytest.fixture
def settings(tmp_path: Path) -> Common:
    publish(tmp_path, "k1", KEY)
    return dataclasses.replace(Common(), auth="jwt", auth_keys_dir=tmp_path)


@pytest.fixture(params=list(WAYS))
async def checked(
    request: pytest.FixtureRequest, settings: Common, toy: Toy
) -> AsyncIterator[Stub]:
    async def unary(request: Any, context: Any) -> Any:
        return text(repr(current_principal()))

    toy.unary = unary
    clock = ManualClock(wall_ms=NOW_S * 1_000)
    guard = Guard(admission(settings, POLICY, clock))
    async with WAYS[request.param](toy, guard) as stub:
        yield stub


def bearing(*headers: str) -> Any:
    return tuple(("authorization", header) for header in headers)


async def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            async for _ in call:
                pass
        else:
            await call
    error = from_rpc_error(caught.value)
    return error.code, error.message


async def test_the_handler_knows_who_calls(checked: Stub) -> None:
    mine = Principal("agent-7", "acme", frozenset({"agent"}), frozenset({"text.summarize"}))

    answer = await checked.unary(text(""), metadata=bearing(f"Bearer {token(KEY)}"))

    assert answer.value == repr(mine)


async def test_a_long_call_can_ask_again_whether_its_caller_is_let_in(
    settings: Common, toy: Toy
) -> None:
    rechecks = []

    async def unary(request: Any, context: Any) -> Any:
        rechecks.append(current_recheck())
        return text("")

    toy.unary = unary
    clock = ManualClock(wall_ms=NOW_S * 1_000)
    async with WAYS["wire"](toy, Guard(admission(settings, POLICY, clock))) as stub:
        await stub.unary(text(""), metadata=bearing(f"Bearer {token(KEY)}"))
        [recheck] = rechecks
        assert recheck is not None
        recheck()

        await clock.advance(931)
        with pytest.raises(Unauthenticated):
            recheck()


HEADERS = {
    "none": lambda: (),
    "two": lambda: (f"Bearer {token(KEY)}", f"Bearer {token(KEY)}"),
    "no scheme": lambda: (token(KEY),),
    "other scheme": lambda: (f"Basic {token(KEY)}",),
    "lower case": lambda: (f"bearer {token(KEY)}",),
    "two spaces": lambda: (f"Bearer  {token(KEY)}",),
    "long": lambda: ("Bearer " + "x" * 5_000,),
    "forged": lambda: (f"Bearer {token(make_key())}",),
    "expired": lambda: (f"Bearer {token(KEY, exp=NOW_S - 31, iat=NOW_S - 90)}",),
}


@pytest.mark.parametrize("make", HEADERS.values(), ids=HEADERS.keys())
async def test_whoever_shows_no_good_token_learns_only_that(checked: Stub, make: Any) -> None:
    call = checked.unary(text(""), metadata=bearing(*make()))

    assert await refusal(call) == ("UNAUTHENTICATED", "invalid token")


async def test_a_role_is_needed_for_each_method(checked: Stub) -> None:
    mine = bearing(f"Bearer {token(KEY)}")

    code, message = await refusal(checked.down(text("1"), metadata=mine))

    assert code == "PERMISSION_DENIED" and "operator" in message


async def test_an_admin_has_every_role_there_is(checked: Stub) -> None:
    admin = bearing(f"Bearer {token(KEY, roles=['admin'])}")

    assert [each.value async for each in checked.down(text("1"), metadata=admin)] == ["1"]


async def test_a_method_without_an_entry_is_refused_even_to_an_admin(checked: Stub) -> None:
    admin = bearing(f"Bearer {token(KEY, roles=['admin'])}")

    code, message = await refusal(checked.up(iter([]), metadata=admin))

    assert code == "PERMISSION_DENIED" and "nobody" in message


async def test_health_is_asked_without_a_token(settings: Common) -> None:
    admit = admission(settings, {}, ManualClock())

    admit("/grpc.health.v1.Health/Check", None)  # type: ignore[arg-type]  # never looked at


async def test_where_callers_are_not_checked_everybody_may_do_everything(toy: Toy) -> None:
    async def unary(request: Any, context: Any) -> Any:
        assert current_principal() is ANONYMOUS
        return request

    toy.unary = unary
    guard = Guard(admission(Common(), None, ManualClock()))
    async with WAYS["wire"](toy, guard) as stub:
        await stub.unary(text(""))

    assert ANONYMOUS.may("operator") and ANONYMOUS.may_offer("anything")


def test_without_keys_nothing_starts(tmp_path: Path) -> None:
    settings = dataclasses.replace(Common(), auth="jwt", auth_keys_dir=tmp_path / "none")

    with pytest.raises(FailedPrecondition):
        admission(settings, POLICY, ManualClock())


def test_outside_of_a_call_nobody_calls() -> None:
    with pytest.raises(AssertionError):
        current_principal()


def test_a_block_may_act_as_somebody() -> None:
    somebody = Principal("a", "b", frozenset({"reader"}), frozenset({"c"}))
    with acting_as(somebody):
        assert current_principal() is somebody
        assert somebody.may("reader") and not somebody.may("admin")
        assert somebody.may_offer("c") and not somebody.may_offer("d")

    with pytest.raises(AssertionError):
        auth.current_principal()


def test_what_is_refused_is_told_to_the_log(
    settings: Common, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent:
        def invocation_metadata(self) -> Any:
            return ()

    admit = admission(settings, POLICY, ManualClock())
    with pytest.raises(Unauthenticated):
        admit(path("Unary"), Silent())  # type: ignore[arg-type]  # all that is asked of it

    [record] = caplog.records
    assert record.__dict__["why"] == "0 authorization headers"

"""Who may take an agent's place where callers show tokens; numbered as in the matrix of faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc.aio
import pytest
import pytest_asyncio

from services.kernel.clock import SystemClock
from services.kernel.errors import PodiumError
from services.kernel.options import dial
from tests.kernel.keys import make_key, publish, token
from tests.routing.peers import Wire
from tests.system.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]


class Checked(NamedTuple):
    """A suite that checks its callers, and what signs their tokens."""

    stage: Stage
    key: Any

    def token(self, subject: str, *, key: Any = None, since_s: int = 0, **claims: Any) -> str:
        now_s = SystemClock().now().wall_ms // 1_000 + since_s
        times = {"iat": now_s, "exp": now_s + 600}
        given = {"sub": subject, "capabilities": ["f8"], **times, **claims}
        return token(key or self.key, **given)

    async def refused(self, shown: str) -> PodiumError:
        """Returns what somebody is told who says that it is the agent."""
        metadata = (("authorization", f"Bearer {shown}"),) if shown else ()
        async with dial(self.stage.suite.addresses["routing"]) as channel:
            for _ in range(5):
                wire = Wire(channel, metadata)
                try:
                    await wire.say_hello("f8", "f8", instance_id="imposter")
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    pass  # it was shown the door before it said so
                error = await wire.ended()
                # Where the refusal comes while gRPC still sends, it may lose the status here.
                if error.message != "Internal error from Core":
                    break
        return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def checked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Checked]:
    directory = tmp_path_factory.mktemp("checked")
    made = Checked(None, make_key())  # type: ignore[arg-type]  # the stage shows a token of it
    publish(directory / "keys", "k1", made.key)
    ours = directory / "token"
    ours.write_text(made.token("suite", roles=["service", "reader"]))
    environ = {
        "PODIUM_AUTH": "jwt",
        "PODIUM_AUTH_KEYS_DIR": directory / "keys",
        "PODIUM_AUTH_TOKEN_FILE": ours,
    }
    admin = made.token("test", roles=["admin"])
    async with staged(directory, environ=environ, token=admin) as stage:
        yield made._replace(stage=stage)


async def test_f8_a_second_process_takes_an_agents_place_only_with_the_agents_credentials(
    checked: Checked,
) -> None:
    stage = checked.stage
    older = await stage.worked("f8", "f8", token=checked.token("f8"))
    task_id = await stage.submit_one("f8", "sleep 2")
    await stage.until(task_id, "STARTED")
    for shown in ("", checked.token("f8", key=make_key()), checked.token("f8", since_s=-4_000)):
        error = await checked.refused(shown)
        assert error.code == "UNAUTHENTICATED", error
    for shown in (checked.token("other"), checked.token("f8", capabilities=["else"])):
        imposter = stage.worker("f8", "f8", token=shown)
        assert await asyncio.to_thread(imposter.wait) != 0
        assert "PermissionDenied" in imposter.output()
    await stage.ended(task_id)
    assert await stage.story(task_id) == WHOLE
    assert older.popen.poll() is None

    held = await stage.submit_one("f8", "first 60")
    await stage.until(held, "STARTED")
    newer = await stage.worked("f8", "f8", token=checked.token("f8"))
    assert await asyncio.to_thread(older.wait) != 0
    assert "started again elsewhere" in older.output()
    # What the older one had is not the newer one's, which never knew of it: another attempt.
    assert (await stage.ended(held)).result.data == b"f8 2"
    epochs = [event.lease_epoch for event in stage.all_of(held, "STARTED")]
    assert len(epochs) == 2 and epochs[0] < epochs[1]
    assert newer.popen.poll() is None

"""Two processes under one agent id, on two routers: the newer one works and the older one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.system.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stage, str]]:
    async with staged(tmp_path_factory.mktemp("twins")) as made:
        _, address = await made.another_router()
        yield made, address


@pytest_asyncio.fixture(loop_scope="module")
async def twins(suite: tuple[Stage, str]) -> AsyncIterator[tuple[Stage, str]]:
    """A suite with two routers, and the address of the second."""
    yield suite
    await suite[0].leave()


async def test_dup_agent_id_over_two_routers(twins: tuple[Stage, str]) -> None:
    """A newer instance takes over; a lease never has two owners; the older one stays out."""
    stage, address = twins
    first, second, third = stage.wire(), stage.wire(address), stage.wire(address)
    await first.hello("twin", "doubled", instance_id="one")
    task_id = await stage.submit_one("doubled")
    assign = (await first.until("twin", "assign"))[0]
    await first.ack("twin", assign)
    await stage.until(task_id, "STARTED")

    await second.hello("twin", "doubled", instance_id="two")
    superseded = await first.until("twin", "superseded")
    await first.result("twin", assign, b"from the older one")
    again = (await second.until("twin", "assign"))[0]
    assert again.lease_epoch > assign.lease_epoch
    # It does not heed the word, and comes to the router of the newer one.
    await third.say_hello("twin", "doubled", instance_id="one")
    refused = await third.until("twin", "superseded")
    await second.ack("twin", again)
    await second.result("twin", again, b"from the newer one")
    task = await stage.ended(task_id)

    assert (superseded[0].instance_id, refused[0].instance_id) == ("two", "two")
    assert task.result.data == b"from the newer one"
    assert (await stage.story(task_id)).count("COMPLETED") == 1
    assert second.of("twin", "superseded") == []
    assert (await stage.agent("twin")).instance_id == "two"


async def test_f8_of_two_processes_on_two_routers_the_newer_works_and_the_older_ends(
    twins: tuple[Stage, str],
) -> None:
    stage, address = twins
    older = await stage.worked("f8", "f8")
    task_id = await stage.submit_one("f8", "first 60")
    await stage.until(task_id, "STARTED")
    newer = await stage.worked("f8", "f8", routing=address)
    code = await asyncio.to_thread(older.wait)
    await stage.ended(task_id)

    assert code != 0
    assert "started again elsewhere" in older.output()
    assert newer.popen.poll() is None
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_f8_two_that_came_while_there_was_no_registry_are_told_apart_once_it_is_back(
    twins: tuple[Stage, str],
) -> None:
    stage, address = twins
    await stage.kill("agent_registry")
    older = await stage.worked("f8-late", "f8-late")
    newer = await stage.worked("f8-late", "f8-late", routing=address)
    await stage.start("agent_registry")
    code = await asyncio.to_thread(older.wait)
    task_id = await stage.submit_one("f8-late", "sleep 0")
    await stage.ended(task_id)

    assert code != 0
    assert "started again elsewhere" in older.output()
    assert newer.popen.poll() is None

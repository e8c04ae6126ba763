"""The web client in a page, by its module as any page would import it, before a real suite."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Suite
from tests.browser.submitter import Submitter


@pytest.fixture
def blank(page: Page) -> Page:
    """A page of the edge, with nothing on it that uses the client."""
    page.goto("/healthz")
    page.evaluate("async () => { window.podium = (await import('/podium.js')).connect(); }")
    return page


def test_a_page_is_client_and_agent_at_once(blank: Page) -> None:
    told: dict[str, Any] = blank.evaluate(
        """async () => {
          const agent = podium.agent({
            agentId: "page-1", capabilities: ["page.double"],
            handle: ({ payload, progress }) => { progress(0.5, "half"); return payload.n * 2; },
          });
          const task = await podium.submit({ type: "page.double", payload: { n: 21 } });
          const names = [];
          for await (const { name } of task.events()) names.push(name);
          const result = await task.result();
          await agent.leave("done");
          return { names, result, state: agent.state, completed: agent.completed };
        }"""
    )

    assert told["result"] == 42
    assert (told["state"], told["completed"]) == ("stopped", 1)
    assert told["names"][0] == "task:created"
    assert told["names"][-2:] == ["task:progress", "task:completed"]


def test_failures_refusals_and_cancels_are_what_a_page_can_tell_apart(blank: Page) -> None:
    told: dict[str, Any] = blank.evaluate(
        """async () => {
          const { FinalFailure, PodiumError, TaskFailed } = await import("/podium.js");
          let aborted = false;
          const agent = podium.agent({
            agentId: "page-2", capabilities: ["page.fail", "page.wait"], maxConcurrency: 2,
            handle: async ({ type, signal }) => {
              if (type === "page.fail") throw new FinalFailure("as told", "AS_TOLD");
              await new Promise((resolve) => signal.addEventListener("abort", resolve));
              aborted = true;
            },
          });
          const outcome = (promise) => promise.then(() => "no error", (error) => error);
          const failed = await outcome((await podium.submit({ type: "page.fail" })).result());
          const waiting = await podium.submit({ type: "page.wait" });
          for await (const { name } of waiting.events()) {
            if (name === "task:started") await waiting.cancel("enough");
          }
          const canceled = await outcome(waiting.result());
          const refused = await outcome(podium.submit({ type: "page.wait", priority: 10 }));
          const missing = await outcome(podium.get("00-nothing"));
          await agent.leave();
          return {
            failed: [failed instanceof TaskFailed, failed.task?.failure?.reason],
            canceled: [canceled instanceof TaskFailed, canceled.task?.state, aborted],
            refused: [refused instanceof PodiumError, refused.field],
            missing: [missing instanceof PodiumError, missing.reason],
          };
        }"""
    )

    assert told == {
        "failed": [True, "AS_TOLD"],
        "canceled": [True, "STATE_CANCELED", True],
        "refused": [True, "submit.tasks[0].priority"],
        "missing": [True, "TASK_NOT_FOUND"],
    }


def test_a_page_loses_no_event_when_the_bridge_restarts(blank: Page, suite: Suite) -> None:
    suite.agent("module-1", "text.echo")
    blank.evaluate(
        """() => {
          window.seqs = [];
          window.done = new Set();
          (async () => {
            for await (const { name, event } of podium.watchEvents({ cursor: "now" })) {
              window.seqs.push(Number(event.seq));
              if (name === "task:completed") window.done.add(event.taskId);
            }
          })();
        }"""
    )
    handles = []
    with Submitter(suite.environ) as client:
        first = client.submit("text.echo", "first")
        blank.wait_for_function("id => window.done.has(id)", arg=first.task_id, timeout=30_000)
        for _ in range(2):
            assert suite.services["edge"].stop() == 0
            handles += [client.submit("text.echo", "while it is away") for _ in range(20)]
            suite.start("edge")
            suite.ready()
        for handle in handles:
            client.result(handle)

    ids = [handle.task_id for handle in handles]
    blank.wait_for_function("ids => ids.every((id) => done.has(id))", arg=ids, timeout=30_000)
    seqs = blank.evaluate("seqs")
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))

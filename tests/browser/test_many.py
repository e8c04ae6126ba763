"""What the dashboard does to all tasks that a filter means."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Suite
from tests.browser.submitter import Submitter


def test_what_could_not_be_queued_again_is_told_with_its_reason(page: Page, suite: Suite) -> None:
    suite.agent("failer-3", "text.fail", "text.words")
    with Submitter(suite.environ) as client:
        bad = client.submit("text.fail", "x", max_retries=0, labels={"batch": "first"})
        for _ in range(2):
            client.submit("text.words", "x", depends_on=[bad.task_id], labels={"batch": "refused"})
        client.outcome(bad)
    page.goto("/#/dead?label=batch%3Drefused")
    expect(page.locator("tbody tr")).to_have_count(2)

    page.get_by_role("button", name="Requeue all that match").click()
    page.get_by_role("button", name="Requeue all of them?").click()

    told = page.get_by_role("alert")
    expect(told).to_contain_text("2 not queued again (DEPENDENCY_FAILED)")
    expect(told).to_contain_text("requeue that one first")
    expect(page.locator(".toast")).to_have_text("0 queued again.")


def test_all_that_match_are_canceled_after_asking_twice(page: Page, suite: Suite) -> None:
    with Submitter(suite.environ) as client:
        for _ in range(3):
            client.submit("text.nobody", "x", labels={"batch": "stopped"})
    page.goto("/#/tasks")
    expect(page.locator("tbody tr").first).to_be_visible()
    # Never all tasks that there are: a filter must be set.
    expect(page.get_by_role("button", name="Cancel all that match")).to_have_count(0)
    page.goto("/#/tasks?label=batch%3Dstopped")

    page.get_by_role("button", name="Cancel all that match").click()
    page.get_by_role("button", name="Cancel all for good?").click()

    expect(page.locator(".toast")).to_have_text("3 canceled.")
    expect(page.locator("tbody .badge", has_text="canceled")).to_have_count(3)

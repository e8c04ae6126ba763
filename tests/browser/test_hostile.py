"""Text of agents and tasks is text, whatever it looks like."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Suite
from tests.browser.corpus import CORPUS
from tests.browser.forms import PAGES, SHOWN, submit
from tests.browser.submitter import Submitter
from tests.browser.worker import HOSTILE


def test_text_of_agents_and_tasks_is_never_markup(page: Page, suite: Suite) -> None:
    suite.agent("hostile-1", "text.echo")
    submit(page, "text.echo", HOSTILE, **{"Labels": f"note={HOSTILE.replace(',', '')}"})
    row = page.locator(".sent li").first
    expect(row.get_by_text("completed")).to_be_visible()
    row.get_by_role("link").first.click()
    expect(page.locator(".content pre").nth(1)).to_contain_text("<img src=x")

    for path in [*PAGES, "agents/hostile-1"]:
        page.goto(f"/#/{path}")
        expect(page.locator(SHOWN.get(path, ".facts")).first).to_be_visible()
    page.goto("/#/agents/hostile-1")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")

    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0


@pytest.mark.timeout(150)
def test_nothing_of_the_hostile_corpus_is_ever_executed(page: Page, suite: Suite) -> None:
    page.add_init_script(
        "addEventListener('securitypolicyviolation', ({ violatedDirective }) => {"
        " window.tried = violatedDirective; });"
    )
    suite.agent("corpus", "text.corpus")
    handles: list[Any] = []
    with Submitter(suite.environ) as client:
        for number, text in enumerate(CORPUS):
            labels = {"note": "".join(each for each in text if each.isprintable())}
            handles.append(
                client.submit("text.corpus", number, labels=labels, tenant="corpus", max_retries=0)
            )
        for handle in handles:
            client.outcome(handle)

    page.goto("/#/agents")
    page.get_by_label("Search agents").fill("text.corpus")
    page.get_by_role("button", name="Show 100 more").click()
    expect(page.locator("tbody tr")).to_have_count(len(CORPUS) + 1)
    unharmed(page)
    for path in ["tasks?type=text.corpus", "dead?type=text.corpus", "now"]:
        page.goto(f"/#/{path}")
        expect(page.locator("tbody tr").first).to_be_visible()
        unharmed(page)
    for number in range(0, len(CORPUS), 6):
        page.goto(f"/#/tasks/{handles[number].task_id}")
        expect(page.locator(".timeline")).to_contain_text("completed")
        page.goto(f"/#/tasks/{handles[number + 1].task_id}")
        expect(page.locator(".attempt .alert")).to_be_visible()
        page.goto(f"/#/agents/corpus-{number}")
        expect(page.locator(".facts")).to_be_visible()
        unharmed(page)
    for text in CORPUS[::4]:
        page.goto(f"/#/{quote(text, safe='')}")
        page.goto(f"/#/tasks/{quote(text, safe='')}")
        page.goto(f"/#/agents/{quote(text, safe='')}")
        page.goto(f"/#/tasks?label={quote(text, safe='')}&failureText={quote(text, safe='')}")
        expect(page.get_by_label("Text of the failure")).to_be_visible()
        unharmed(page)


def unharmed(page: Page) -> None:
    assert page.evaluate("[window.hit, window.tried]") == [None, None]
    assert (
        page.locator("main :is(img, script, iframe, object, embed, style, form form)").count() == 0
    )
    assert page.locator("main a[href^='javascript:' i]").count() == 0

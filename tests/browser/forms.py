"""What the tests of the dashboard do again and again."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

PAGES = ["now", "agents", "tasks", "dead", "submit"]
# What a page shows once it has its data.
SHOWN = {
    "now": ".list-8 tbody tr",
    "agents": "tbody tr",
    "tasks": "tbody tr",
    "dead": "tbody tr, .empty",
    "submit": "form",
}


def submit(page: Page, kind: str, payload: str = "one two three", **more: str) -> Locator:
    """Submits a task by the form and returns its row."""
    page.goto("/#/submit")
    page.get_by_label("Type").fill(kind)
    page.get_by_label("Payload").fill(payload)
    if more:
        if not page.get_by_label("Labels").is_visible():
            page.get_by_text("More", exact=True).click()
        for label, text in more.items():
            page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Submit").click()
    return page.locator(".sent li").first

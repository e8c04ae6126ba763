"""Whoever looks at the dashboard, on whatever: it can be read, reached and does not jump."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ARTIFACTS, Suite
from tests.browser.forms import PAGES, SHOWN, submit
from tests.browser.submitter import Submitter


def test_nothing_is_wider_than_a_phone(browser: Browser, suite: Suite) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, base_url=suite.url, color_scheme="dark"
    )
    page = context.new_page()
    suite.agent("phone-1", "text.echo")
    expect(submit(page, "text.echo").get_by_text("completed")).to_be_visible()
    for path in [*PAGES, "agents/phone-1"]:
        page.goto(f"/#/{path}")
        expect(page.locator(SHOWN.get(path, ".facts")).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.screenshot(path=ARTIFACTS / f"phone-{path.replace('/', '-')}.png", full_page=True)
    context.close()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page: Page, suite: Suite) -> None:
    suite.agent("keys-1", "text.echo")
    page.goto("/#/agents")
    expect(page.locator(SHOWN["agents"]).first).to_be_visible()
    page.get_by_label("Search agents").fill("keys-1")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    wanted = page.evaluate(f"{FOCUSABLE}.length")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    for _ in range(wanted - 1):
        assert page.evaluate(SEEN), page.evaluate("document.activeElement.outerHTML")
        page.keyboard.press("Tab")

    assert page.evaluate(f"{FOCUSABLE}.at(-1) === document.activeElement")
    page.reload()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_everything_that_can_be_used_has_a_name(page: Page, suite: Suite) -> None:
    suite.agent("named-1", "text.echo")
    row = submit(page, "text.echo")
    expect(row.get_by_text("completed")).to_be_visible()
    task = row.get_by_role("link").first.get_attribute("href")
    for path in [*PAGES, "agents/named-1", (task or "").removeprefix("#/")]:
        page.goto(f"/#/{path}")
        expect(page.locator(SHOWN.get(path, ".facts")).first).to_be_visible()
        assert page.evaluate(NAMELESS) == [], path
        assert page.evaluate("document.querySelectorAll('h1').length") == 1, path
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
        assert len(ids) == len(set(ids)), path


def test_nothing_jumps_while_the_numbers_change(page: Page, suite: Suite) -> None:
    suite.agent("mover-1", "text.echo")
    page.add_init_script(SHIFTS)
    page.goto("/#/now")
    completed = page.locator(".states a", has_text="completed").locator(".number")
    expect(completed).not_to_have_text("0")
    expect(page.locator(SHOWN["now"]).first).to_be_visible()
    before = int(completed.inner_text().replace(",", ""))
    page.evaluate("window.shift = 0")

    with Submitter(suite.environ) as client:
        for handle in [client.submit("text.echo", "x" * 9) for _ in range(60)]:
            client.result(handle)
    expect(completed).to_have_text(f"{before + 60:,}")

    # Below 0.1 the eye does not mind; a row that comes or a line that breaks has more.
    assert page.evaluate("window.shift") < 0.05


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(browser: Browser, suite: Suite, scheme: str) -> None:
    # WCAG AA: 4.5 to 1 for text, measured on what the browser has computed.
    context = browser.new_context(
        viewport={"width": 1360, "height": 900},
        base_url=suite.url,
        color_scheme=scheme,  # type: ignore[arg-type]  # a literal
    )
    page = context.new_page()
    for path in PAGES:
        page.goto(f"/#/{path}")
        expect(page.locator(SHOWN.get(path, ".facts")).first).to_be_visible()
        assert page.evaluate(CONTRAST) == [], path
        page.screenshot(path=ARTIFACTS / f"{scheme}-{path}.png", full_page=True)
    context.close()


CONTRAST = """
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const over = (under, color) => {
    pen.fillStyle = `rgb(${under.join()})`;
    pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const known = new Map();
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    if (!known.has(element)) {
      const color = getComputedStyle(element).backgroundColor;
      known.set(element, over(ground(element.parentElement), color));
    }
    return known.get(element);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faults = [];
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!says || !element.checkVisibility() || element.closest(":disabled")) continue;
    const under = ground(element);
    const [a, b] = [light(over(under, getComputedStyle(element).color)), light(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const text = element.textContent.slice(0, 20);
    if (ratio < 4.5) faults.push(`${element.className} ${text} ${ratio.toFixed(2)}`);
  }
  return faults;
}
"""

FOCUSABLE = """[...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((each) => !each.disabled && each.checkVisibility())"""

# An outline, or what a control of the browser's own draws for it.
SEEN = """(() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
})()"""

NAMELESS = """
() => {
  const faults = [];
  for (const each of document.querySelectorAll("a, button, input, select, textarea, [role=img]")) {
    const labels = [...(each.labels ?? [])].map((label) => label.textContent).join("");
    const name = each.getAttribute("aria-label") || labels || each.textContent;
    if (!name.trim()) faults.push(each.outerHTML.slice(0, 90));
  }
  return faults;
}
"""

SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.shift += each.value;
}).observe({ type: "layout-shift" });
"""

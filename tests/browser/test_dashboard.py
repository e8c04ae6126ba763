from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from services.kernel.clock import SystemClock
from tests.browser.conftest import Suite
from tests.browser.forms import SHOWN, submit
from tests.browser.submitter import Submitter
from tests.kernel.keys import make_key, publish, token
from tests.support.ports import free_port


def test_pages_without_anything_to_show_teach_what_to_do(page: Page) -> None:
    # Runs first: later there are tasks.
    page.goto("/#/now")
    expect(page.get_by_text("Three steps to the first result")).to_be_visible()
    expect(page.locator(".attention")).to_contain_text("No agent is connected")
    page.goto("/#/tasks?state=STATE_EXPIRED")
    expect(page.get_by_text("No task matches")).to_be_visible()
    page.goto("/#/agents")
    expect(page.get_by_text("No agent has connected yet")).to_be_visible()
    page.goto("/#/dead")
    expect(page.get_by_text("No dead letters")).to_be_visible()
    page.goto("/#/nowhere")
    expect(page.get_by_text("There is no such page")).to_be_visible()


def test_a_submitted_task_is_seen_to_finish_with_its_trace_and_the_reason_for_its_agent(
    page: Page, suite: Suite
) -> None:
    suite.agent("counter-1", "text.words", "text.echo")

    row = submit(page, "text.words")
    expect(row.get_by_text("completed")).to_be_visible()
    expect(row).to_contain_text('{"words":3}')
    row.get_by_role("link").first.click()

    expect(page.get_by_role("heading", name="text.words")).to_be_visible()
    expect(page.locator(".timeline")).to_contain_text("assigned in")
    expect(page.locator("tr.chosen")).to_contain_text("counter-1")
    expect(page.locator(".content pre").nth(1)).to_contain_text('"words": 3')
    for span in ("submit", "queue", "route", "assign", "complete"):
        expect(page.locator(".span-name", has_text=re.compile(f"^{span}"))).to_be_visible()
    page.locator(".span-row").first.click()
    expect(page.locator(".span-facts")).to_contain_text("task.id")


def test_the_numbers_of_now_move_with_the_tasks(page: Page, suite: Suite) -> None:
    page.goto("/#/now")
    completed = page.locator(".states a", has_text="completed").locator(".number")
    expect(completed).not_to_have_text("0")
    before = int(completed.inner_text().replace(",", ""))

    other = page.context.new_page()
    other.goto("/#/submit")
    other.get_by_label("Type").fill("text.words")
    other.get_by_label("How many").fill("50")
    other.get_by_role("button", name="Submit 50 tasks").click()

    expect(completed).to_have_text(str(before + 50))
    expect(page.locator(".tile", has_text="Throughput").locator(".tile-value")).not_to_have_text(
        "0/s"
    )
    expect(page.locator(".chart canvas")).to_have_count(4)
    other.close()


def test_a_running_task_is_canceled_after_asking_twice(page: Page, suite: Suite) -> None:
    suite.agent("sleeper-1", "text.sleep")
    row = submit(page, "text.sleep")
    expect(row.get_by_text("running")).to_be_visible()
    row.get_by_role("link").first.click()
    expect(page.locator(".running")).to_contain_text("step")

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel for good?").click()

    expect(page.locator(".title .badge")).to_have_text("canceled")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


def test_a_dead_letter_is_queued_again(page: Page, suite: Suite) -> None:
    suite.agent("failer-1", "text.fail")
    row = submit(page, "text.fail", Retries="0")
    expect(row.get_by_text("failed")).to_be_visible()
    page.goto("/#/dead")
    listed = page.locator("tbody tr", has_text="text.fail")
    expect(listed).to_contain_text("it never works")

    listed.get_by_role("checkbox").check()
    page.get_by_role("button", name="Requeue 1").click()

    expect(page.locator(".toast")).to_have_text("1 queued again.")
    listed.get_by_role("link").first.click()
    expect(page.locator(".timeline")).to_contain_text("requeued")


def test_dead_letters_of_one_fault_are_queued_again_together(page: Page, suite: Suite) -> None:
    suite.agent("failer-2", "text.fail")
    page.goto("/#/submit")
    page.get_by_label("Type").fill("text.fail")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Retries").fill("0")
    page.get_by_label("Labels").fill("batch=together")
    page.get_by_label("How many").fill("12")
    page.get_by_role("button", name="Submit 12 tasks").click()
    expect(page.locator(".sent .badge", has_text="failed")).to_have_count(12)
    page.goto("/#/dead?label=batch%3Dtogether")
    fault = page.locator(".reason-chip", has_text="it never works")
    expect(fault.locator("b")).to_have_text("12")

    fault.click()
    expect(page.get_by_label("Text of the failure")).to_have_value(re.compile("it never works"))
    page.get_by_role("button", name="Requeue all that match").click()
    page.get_by_role("button", name="Requeue all of them?").click()

    expect(page.locator(".toast")).to_have_text("12 queued again.")


def test_what_needs_attention_is_said_in_one_line_and_leads_there(page: Page, suite: Suite) -> None:
    with Submitter(suite.environ) as client:
        handle = client.submit("text.nobody", "x")
        page.goto("/#/now")
        matter = page.locator(".matter", has_text="text.nobody")
        expect(matter).to_contain_text("1 wait for an agent that can do text.nobody")

        matter.click()
        expect(page.get_by_label("State")).to_have_value("STATE_QUEUED")
        row = page.locator("tbody tr", has_text="text.nobody")
        expect(row).to_contain_text("no agent can")
        row.get_by_role("link").first.click()
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_role("button", name="Cancel for good?").click()
        expect(page.locator(".title .badge")).to_have_text("canceled")

        page.goto("/#/now")
        expect(page.locator(".states")).to_be_visible()
        expect(matter).to_have_count(0)
        assert handle.task_id


def test_agents_are_sorted_and_narrowed_by_an_address_that_can_be_passed_on(
    page: Page, suite: Suite
) -> None:
    suite.agent("sorter-1", "text.words")
    suite.agent("sorter-2", "text.words")
    page.goto("/#/agents")
    page.get_by_label("Search agents").fill("sorter-")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Mean run").click()
    heading = page.get_by_role("columnheader", name="Mean run")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    passed_on = page.url
    other = page.context.new_page()
    other.goto(passed_on)

    expect(other.get_by_label("Search agents")).to_have_value("sorter-")
    expect(other.locator("tbody tr")).to_have_count(2)
    expect(other.locator("th[aria-sort=ascending]")).to_have_text("Mean run")
    other.close()


def test_a_cell_of_the_fleet_opens_its_agent(page: Page, suite: Suite) -> None:
    suite.agent("a-first-one", "text.words")  # agents stand by their names
    page.goto("/#/agents")
    expect(page.get_by_role("link", name="Worker").first).to_be_visible()

    page.locator(".fleet").hover(position={"x": 5, "y": 5})
    expect(page.locator(".fleet-told")).to_contain_text("idle")
    page.locator(".fleet").click(position={"x": 5, "y": 5})

    expect(page.locator(".facts")).to_contain_text("a-first-one")


def test_when_an_agent_dies_its_task_moves_to_another(page: Page, suite: Suite) -> None:
    victim = suite.agent("victim-1", "text.die")
    row = submit(page, "text.die")
    expect(row).to_contain_text("on victim-1")
    suite.agent("heir-1", "text.die")

    victim.kill()

    expect(row).to_contain_text("done by heir-1")
    page.goto("/#/agents/victim-1")
    expect(page.locator(".title .badge")).to_have_text(re.compile("suspect|offline"))


def test_an_operator_quarantines_an_agent_and_releases_it(page: Page, suite: Suite) -> None:
    page.goto("/#/agents")
    page.get_by_label("Search agents").fill("counter-1")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)

    row.get_by_role("button", name="Quarantine").click()
    row.get_by_role("button", name="Quarantine?").click()
    expect(row.locator(".badge").first).to_have_text("quarantined")
    row.get_by_role("button", name="Release").click()

    expect(row.locator(".badge").first).to_have_text("idle")


def test_a_browser_tab_is_an_agent_and_another_its_client(page: Page) -> None:
    agent = page.context.new_page()
    agent.goto("/examples/agent.html")
    expect(agent.locator("#state")).to_have_text("ready")

    page.bring_to_front()  # a page behind another is drawn once a second, and clicks wait for that
    page.goto("/examples/client.html")
    page.get_by_label("Text").fill("the quick brown fox")
    page.get_by_role("button").click()

    expect(page.locator("#log")).to_contain_text('{"words":4,"characters":19}')
    expect(agent.locator("#done li")).to_contain_text("4 words")
    page.goto("/#/agents")
    expect(page.locator("tbody tr", has_text="A browser tab")).to_contain_text("browser")
    agent.close()


def test_the_page_goes_on_where_it_was_when_the_bridge_comes_back(page: Page, suite: Suite) -> None:
    page.goto("/#/now")
    expect(page.locator(".connection")).to_have_text("Live")

    assert suite.services["edge"].stop() == 0
    expect(page.locator(".connection")).to_have_text("Reconnecting")
    expect(page.get_by_text("The connection is lost")).to_be_visible()
    suite.start("edge")
    suite.ready()

    expect(page.locator(".connection")).to_have_text("Live")
    row = submit(page, "text.words")
    expect(row.get_by_text("completed")).to_be_visible()


def test_a_page_that_is_not_let_in_asks_for_a_token_and_goes_on_with_it(
    page: Page, suite: Suite, tmp_path: Path
) -> None:
    key, port = make_key(), free_port()
    publish(tmp_path / "keys", "k1", key)
    environ = {
        **suite.environ,
        "PODIUM_EDGE_PORT": str(port),
        "PODIUM_AUTH": "jwt",
        "PODIUM_AUTH_KEYS_DIR": str(tmp_path / "keys"),
    }
    edge = suite.processes.python("-m", "services.edge", environ=environ)
    edge.wait_for("listening on")
    page.goto(f"http://127.0.0.1:{port}/#/now")
    expect(page.get_by_text("does not let this page in")).to_be_visible()
    now_s = SystemClock().now().wall_ms // 1_000

    page.get_by_label("Token").fill(token(key, iat=now_s, exp=now_s + 600, roles=["reader"]))
    page.get_by_role("button", name="Connect").click()

    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.locator(SHOWN["now"]).first).to_be_visible()
    edge.kill()


def test_tasks_are_found_by_their_label_and_by_the_text_of_their_failure(
    page: Page, suite: Suite
) -> None:
    suite.agent("finder-1", "text.fail", "text.echo")
    labels = {"Labels": "team=finders", "Retries": "0"}
    expect(submit(page, "text.fail", **labels).get_by_text("failed")).to_be_visible()
    expect(submit(page, "text.echo", **labels).get_by_text("completed")).to_be_visible()

    page.goto("/#/tasks")
    page.get_by_label("Label, as key=value").fill("team=finders")
    page.wait_for_timeout(2_500)  # the list is fetched anew meanwhile, and the word must stay
    page.get_by_label("Label, as key=value").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Text of the failure").fill("NEVER works")
    page.get_by_label("Text of the failure").press("Enter")

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("text.fail")


def test_a_question_of_an_agent_is_answered_on_the_page_of_the_task(
    page: Page, suite: Suite
) -> None:
    suite.agent("painter-1", "text.ask")
    submit(page, "text.ask").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="It waits for an answer")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Which colour?")

    page.get_by_label("Answer").fill("green")
    page.get_by_role("button", name="Answer", exact=True).click()

    expect(page.locator(".title .badge")).to_have_text("completed")
    expect(page.locator(".content pre").last).to_contain_text("painted green")


def test_the_page_of_an_agent_says_why_it_was_chosen_and_why_not(page: Page, suite: Suite) -> None:
    suite.agent("pair-1", "text.echo")
    suite.agent("pair-2", "text.echo")
    page.goto("/#/submit")
    page.get_by_label("Type").fill("text.echo")
    page.get_by_label("How many").fill("30")
    page.get_by_role("button", name="Submit 30 tasks").click()
    expect(page.locator(".sent li").last.get_by_text("completed")).to_be_visible()

    page.goto("/#/agents/pair-1")
    panel = page.locator(".panel", has_text="Chosen or not")

    expect(panel.locator("tbody tr")).to_have_count(10)
    expect(panel.locator("tbody .reason").first).not_to_be_empty()
    reasons = re.compile("that could|available|free|longer|chance|best|surely|learn")
    expect(panel).to_contain_text(reasons)
    expect(page.locator(".chart canvas")).to_have_count(2)
    page.goto("/#/agents")
    page.get_by_label("Search agents").fill("pair-")
    expect(page.locator("tbody tr .spark")).to_have_count(2)
    expect(page.locator(".spark .spark-line").first).to_be_attached()


def test_a_tab_that_is_put_to_sleep_is_noticed_and_its_task_moves_on(
    page: Page, suite: Suite
) -> None:
    sleeper = page.context.new_page()
    sleeper.goto("/examples/agent.html")
    expect(sleeper.locator("#state")).to_have_text("ready")
    sleeping = page.context.new_cdp_session(sleeper)
    with Submitter(suite.environ) as client:
        # As when a browser suspends a tab: its connection stays, and no more script of it runs.
        sleeping.send("Debugger.enable")
        sleeping.send("Debugger.pause")
        handle = client.submit("text.count", "one two three")
        page.bring_to_front()
        page.goto(f"/#/tasks/{handle.task_id}")
        expect(page.locator(".timeline")).to_contain_text("assigned")
        other = page.context.new_page()
        other.goto("/examples/agent.html")
        expect(other.locator("#state")).to_have_text("ready")

        assert client.result(handle) == {"words": 3, "characters": 13}

    expect(other.locator("#done li")).to_contain_text("3 words")
    sleeping.detach()
    sleeper.close()
    other.close()

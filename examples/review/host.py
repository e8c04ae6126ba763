"""One process of agents: `python -m examples.review.host ada wobbly ...`.

All a program needs to be an agent is here: a handler for each skill, and `AgentHost`.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from examples.review.checks.duplicates import digest_duplicates
from examples.review.checks.python_source import review_python, review_python_closely
from examples.review.checks.review import Review, Source
from examples.review.checks.secrets import scan_for_secrets
from examples.review.checks.settings import check_settings
from examples.review.checks.table import profile_table
from examples.review.checks.text import analyze_text
from examples.review.fleet import AGENTS_MAX, CAPACITY, Profile, profiles
from examples.review.payloads import PayloadRefused, unpack
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import TaskError
from podium.sdk.host import AgentHost, run_until_signal
from podium.v1 import task_pb2

FLAKY_SHARE = 0.7
FLAKY_SEED = 7  # the first draws fail, so that even a short job sees retries
SECOND_THOUGHT_S = 0.05

SKILLS: dict[str, Callable[[Sequence[Source]], Review]] = {
    "python.review": lambda sources: review_python(sources[0]),
    "text.analyze": lambda sources: analyze_text(sources[0]),
    "table.profile": lambda sources: profile_table(sources[0]),
    "config.check": lambda sources: check_settings(sources[0]),
    "secrets.scan": scan_for_secrets,
    "duplicates.digest": digest_duplicates,
}


def agent_of(profile: Profile) -> Agent:
    """Returns an agent as its profile describes it."""
    agent = Agent(
        profile.about,
        agent_id=profile.agent_id,
        capacity=CAPACITY,
        labels={"job": "review", "temper": profile.temper},
    )
    handler = _handlers[profile.temper]
    for skill, proficiency in profile.skills.items():
        agent.handles(skill, proficiency=proficiency)(handler(proficiency))
    return agent


def _steady(proficiency: float) -> Callable[..., Any]:
    # Plain functions run in threads, so the other agents of this process go on meanwhile.
    def work(payload: task_pb2.Payload, task: Context) -> dict[str, Any]:
        task.confidence = proficiency
        return SKILLS[task.type](_sources(payload, task)).as_json()

    return work


def _close(proficiency: float) -> Callable[..., Any]:
    def work(payload: task_pb2.Payload, task: Context) -> dict[str, Any]:
        task.confidence = proficiency
        review = review_python_closely(_sources(payload, task)[0])
        task.progress(0.5, "thinks about it once more")
        if not task.cancelled:
            time.sleep(SECOND_THOUGHT_S)
        return review.as_json()

    return work


def _flaky(proficiency: float) -> Callable[..., Any]:
    draw = random.Random(FLAKY_SEED)

    def work(payload: task_pb2.Payload, task: Context) -> dict[str, Any]:
        if draw.random() < FLAKY_SHARE:
            raise TaskError("gave up, on purpose, to show what a retry is", reason="FLAKY")
        task.confidence = proficiency
        return SKILLS[task.type](_sources(payload, task)).as_json()

    return work


_handlers: dict[str, Callable[[float], Callable[..., Any]]] = {
    "steady": _steady,
    "close": _close,
    "flaky": _flaky,
}


def _sources(payload: task_pb2.Payload, task: Context) -> list[Source]:
    try:
        return unpack(payload.content_type, payload.data, task.spec.labels)
    except PayloadRefused as error:
        raise TaskError(str(error), reason="PAYLOAD_REFUSED", retryable=False) from error


def main(names: Sequence[str]) -> None:
    """Hosts the named agents until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    known = {profile.agent_id: profile for profile in profiles(AGENTS_MAX)}
    run_until_signal(AgentHost([agent_of(known[name]) for name in names]))


if __name__ == "__main__":
    main(sys.argv[1:])

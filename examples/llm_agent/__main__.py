"""Run the agent until Ctrl-C: `python -m examples.llm_agent`."""

from __future__ import annotations

import logging
import sys

from examples.llm_agent.agent import make
from podium.sdk.agent import Agent


def main() -> int:
    """Run the agent and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        agent: Agent = make()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    agent.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())

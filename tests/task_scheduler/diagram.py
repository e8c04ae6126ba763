"""Draws the states into the architecture text: `python -m tests.task_scheduler.diagram`."""

from __future__ import annotations

from pathlib import Path

from services.task_scheduler.core.states import diagram

README = Path(__file__).resolve().parents[2] / "services" / "README.md"
BEGIN, END = "<!-- states:begin -->", "<!-- states:end -->"


def main() -> None:
    text = README.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n```mermaid\n{diagram()}\n```\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()

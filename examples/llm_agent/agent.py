"""What the agent can do, as prompts."""

from __future__ import annotations

from podium.sdk.llm import LLMAgent, Prompt

PROMPTS = {
    "text.summarize": Prompt(
        "$text", system="Summarize the user's text in at most three sentences, in its own language."
    ),
    "text.translate": Prompt(
        "$text",
        system="Translate the user's text into $language. Answer with the translation alone.",
    ),
    "text.classify": Prompt(
        "$text",
        system='Which of $labels fits the text of the user best? Answer as JSON: {"label": "..."}',
        json=True,
        max_tokens=50,
        temperature=0.0,
    ),
}


def make() -> LLMAgent:
    """Return the agent, with the endpoint and the model that the environment names.

    Raises:
        ValueError: It names no model.
    """
    return LLMAgent("llm", prompts=PROMPTS, chat=True, capacity=4)

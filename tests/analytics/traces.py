"""OTLP requests as exporters make them."""

from __future__ import annotations

from services.kernel.otlp import Encoder
from services.kernel.spans import Attributes

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
TRACE_ID = f"{TRACE:032x}"


def request(
    *names: str,
    trace: int = TRACE,
    task_id: str = "t-1",
    service: str = "routing",
    first_span: int = 1,
    attributes: Attributes = (("task.type", "words"),),
    error: str = "",
) -> bytes:
    """Returns a request with a span for each name, each the child of the one before."""
    told = ((("task.id", task_id),) if task_id else ()) + attributes
    return Encoder(service).request(
        (trace, first_span + n, first_span + n - 1, name, 1_000 + n, 1_500 + n, told, error)
        for n, name in enumerate(names)
    )

"""What an agent says of itself in its Hello, checked before Routing hears it."""

from __future__ import annotations

from podium.v1.session_pb2 import AgentFrame
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import PermissionDenied
from services.kernel.rules import Checker

concurrency_max = 1_000
in_flight_len_max = 2 * concurrency_max
money_max = 1e12


def check_hello(frame: AgentFrame, path: str) -> None:
    """Check what Routing would refuse, which counts against the stream that all agents share.

    Raises:
        InvalidArgument: INVALID_FIELD with all violations.
    """
    hello, at = frame.hello, f"{path}.hello"
    checker = Checker()
    checker.identifier(f"{path}.agentId", frame.agent_id)
    checker.key(f"{at}.instanceId", hello.instance_id)
    checker.name(f"{at}.name", hello.name)
    checker.text(f"{at}.buildId", hello.build_id, limits.name_len_max)
    checker.text(f"{at}.sdk", hello.sdk, limits.name_len_max)
    checker.text(f"{at}.resumeToken", hello.resume_token, limits.name_len_max)
    checker.labels(f"{at}.labels", hello.labels)
    checker.integer(f"{at}.maxConcurrency", hello.max_concurrency, 0, concurrency_max)
    checker.length(f"{at}.inFlight", len(hello.in_flight), in_flight_len_max)
    count = len(hello.capabilities)
    checker.length(f"{at}.capabilities", count, limits.capabilities_len_max, low=1)
    for index, capability in enumerate(hello.capabilities[: limits.capabilities_len_max]):
        each = f"{at}.capabilities[{index}]"
        checker.capability(f"{each}.name", capability.name)
        checker.text(f"{each}.version", capability.version, 32)
        checker.finite(f"{each}.proficiency", capability.proficiency, 0.0, 1.0)
    cost = hello.cost_hint
    checker.finite(f"{at}.costHint.costPerTask", cost.cost_per_task, 0.0, money_max)
    checker.finite(f"{at}.costHint.costPerKilotoken", cost.cost_per_kilotoken, 0.0, money_max)
    checker.done()


def check_rights(principal: Principal, frame: AgentFrame) -> None:
    """Check who speaks for the agent: to Routing every frame comes from this bridge.

    Raises:
        PermissionDenied: ROLE_REQUIRED, AGENT_NOT_YOURS or CAPABILITY_NOT_GRANTED.
    """
    if not principal.may("agent"):
        raise PermissionDenied("ROLE_REQUIRED", "To be an agent needs the role agent.")
    service = principal.may("service")
    own = frame.agent_id == principal.subject or frame.agent_id.startswith(f"{principal.subject}-")
    if not own and not service:
        raise PermissionDenied(
            "AGENT_NOT_YOURS", f"The caller {principal.subject} may not speak for this agent."
        )
    for capability in frame.hello.capabilities:
        if not service and not principal.may_offer(capability.name):
            raise PermissionDenied(
                "CAPABILITY_NOT_GRANTED",
                f"The caller may not offer the capability {capability.name[:64]!r}.",
            )

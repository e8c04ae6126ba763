"""Who holds a stream must be let in for as long as it lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.kernel.clock import SystemClock
from services.routing import loops
from tests.kernel.keys import make_key, publish, token
from tests.routing.peers import room
from tests.support.waiting import eventually


async def test_a_stream_ends_when_its_token_is_not_good_any_more_and_a_bridges_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loops, "check_s", 0.05)
    key, other = make_key(), make_key()
    publish(tmp_path, "k1", key)
    publish(tmp_path, "k2", other)
    now_s = SystemClock().now().wall_ms // 1_000
    given = {"capabilities": ["echo"], "iat": now_s, "exp": now_s + 600}
    async with room(auth="jwt", auth_keys_dir=tmp_path) as here:
        gone = here.wire(token(key, sub="gone", **given))
        stays = here.wire(token(other, kid="k2", sub="stays", **given))
        bridge = here.wire(token(key, sub="edge", **{**given, "roles": ["service", "agent"]}))
        await gone.hello("gone")
        await stays.hello("stays")
        await bridge.hello("tab-1")

        (tmp_path / "k1.pem").unlink()
        error = await gone.ended()

        assert (error.code, error.reason) == ("UNAUTHENTICATED", "INVALID_TOKEN")
        here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await eventually(lambda: stays.of("stays", "assign") or bridge.of("tab-1", "assign"))
        assert not stays._reader.done() and not bridge._reader.done()

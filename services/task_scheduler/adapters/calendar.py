"""Cron expressions in their time zones.

They are read as Debian's cron reads them, by cronsim: a time that clocks skip fires right behind
the gap, and one that comes twice fires once; but where minute or hour begins with `*`, it goes by
the time that really passes.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5


class Calendar:
    """Tells when expressions fire."""

    def __call__(self, cron: str, time_zone: str, wall_ms: int) -> int:
        """Return the first time after `wall_ms` at which an expression fires; 0 = never."""
        begin = datetime.fromtimestamp(wall_ms / 1000, ZoneInfo(time_zone))
        for at in CronSim(NAMES.get(cron, cron), begin):
            at_ms = round(at.timestamp() * 1000)
            # Where an hour comes twice, the second reading of the clock finds times of the first.
            if at_ms > wall_ms:
                return at_ms
        return 0

    def check_cron(self, cron: str, wall_ms: int) -> None:
        """Raise unless an expression can be read and fires some day.

        Raises:
            ValueError: It does not; the message says what it must be.
        """
        expression = NAMES.get(cron, cron)
        if len(expression.split()) != FIELDS:
            raise ValueError(f"must have {FIELDS} fields or be one of {', '.join(NAMES)}")
        try:
            fires = self(cron, "UTC", wall_ms)
        except CronSimError as error:
            raise ValueError(f"must be a cron expression: {str(error).lower()}") from None
        if not fires:
            raise ValueError("must be a cron expression that fires some day")

    def check_zone(self, time_zone: str) -> None:
        """Raise unless there is such a time zone.

        Raises:
            ValueError: There is none.
        """
        try:
            ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be an IANA time zone such as Europe/Berlin") from None

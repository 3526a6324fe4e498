"""Waiting for what must come, however busy the machine is: there is no moment by which it is late.

Only for that. What must not come is not waited for; that it is not there is looked at when it would be.
"""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds. Only what is broken takes that long."""

_PAUSE = 0.005


def await_that(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(_PAUSE)


async def until(true: Callable[[], object], what: str) -> None:
    """The same, and the event loop goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(_PAUSE)

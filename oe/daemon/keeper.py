"""Keeps the trap in place: puts it back when somebody else takes it away, with a guard underneath meanwhile."""

import asyncio
from collections.abc import Callable

import structlog

from oe.errors import MachineLacks, OeError
from oe.ipsec.model import Loop, Timer
from oe.trap.guard import Guard
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec
from oe.trap.watch import TableWatch

PACE = 0.2
"""Seconds from one restoration to the next: who changes the table all the time must not have all of ours."""


class Keeper:
    """From its making until `close` the table is as `spec` says; `on_restored` when it had to be put back.

    Closing leaves the table to its caller. Raises KernelError or MachineLacks if the table cannot be installed; without
    a guard there is a warning in the log.
    """

    def __init__(self, table: NftTable, spec: TrapSpec, loop: Loop, on_restored: Callable[[], None]) -> None:
        self._table = table
        self._spec = spec
        self._loop = loop
        self._on_restored = on_restored
        self._log = structlog.get_logger()
        self._timer: Timer | None = None
        self._restored = -PACE
        self._guard: Guard | None = None
        self._set_guard(spec)
        try:
            table.install(spec)
            self._watch = TableWatch(table.port)
        except BaseException:
            self._dismiss_guard()
            raise
        loop.add_reader(self._watch.fileno(), self._hear)

    def close(self) -> None:
        self._stop_listening()
        self._watch.close()
        self._dismiss_guard()

    async def reload(self, spec: TrapSpec) -> None:
        """Make the table as `spec` says; decisions stay. Raises KernelError: then all is as before.

        The transactions run in a thread. Until this returns nobody may decide anything in the table, nor reload or
        close: a decision that the old policy made must not come into the new table, and `nft` would begin anew with
        each, for it wants a ruleset that stands still.
        """
        if self._watch.changed() or self._timer is not None:
            # What stands now is not known; what we put back is.
            if self._timer is not None:
                self._timer.cancel()
            self._restore()
        self._stop_listening()
        meddled = False
        try:
            meddled = await asyncio.to_thread(self._exchange, spec)
            self._spec = spec
        finally:
            self._loop.add_reader(self._watch.fileno(), self._hear)
            self._look_once_more(meddled=meddled or self._watch.changed_beside(self._table.author))

    def _exchange(self, spec: TrapSpec) -> bool:
        """Whether somebody else touched the table meanwhile. A packet passes in clear only where both floors let it.

        Each is exchanged in one transaction, the guard's first, so that what is closed before and after is never open,
        and what is opened is open when both are done.
        """
        self._set_guard(spec)
        try:
            self._table.reload(spec)
        except OeError:
            self._set_guard(self._spec)
            raise
        return self._watch.changed_beside(self._table.author)

    def _stop_listening(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self._watch.fileno())

    def _set_guard(self, spec: TrapSpec) -> None:
        """A guard for the closed nets of `spec`, if there are any."""
        if not spec.has_closed_nets:
            self._dismiss_guard()
            return
        try:
            if self._guard is None:
                self._guard = Guard(spec)
            else:
                self._guard.reload(spec)
        except MachineLacks as fault:
            self._dismiss_guard()
            self._log.warning("no-guard", missing=fault.missing, remedy=fault.remedy)

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _hear(self) -> None:
        if self._watch.changed() and self._timer is None:
            at = self._restored + PACE
            if at <= self._loop.time():
                self._restore()
            else:
                self._timer = self._loop.call_at(at, self._restore)

    def _restore(self) -> None:
        self._timer = None
        try:
            self._table.restore()
        except OeError as error:
            self._log.error("table-not-restored", error=str(error))
            self._again()
            return
        finally:
            self._restored = self._loop.time()
        self._log.warning("table-restored", meaning="somebody else changed or removed the table inet oe")
        self._on_restored()
        self._look_once_more(meddled=self._watch.changed_since(self._table.author))

    def _look_once_more(self, *, meddled: bool) -> None:
        """`meddled`: others were at it while we were. Of that something may have been lost, but whoever took the table
        away did so before this."""
        if meddled or not self._table.stands():
            self._again()

    def _again(self) -> None:
        self._timer = self._loop.call_at(self._loop.time() + PACE, self._restore)

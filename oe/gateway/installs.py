"""Halves of Child SAs on their way into the kernel, and what happened to them meanwhile."""

from oe.gateway.context import Context
from oe.messages import InstallChild
from oe.model import Directions, HostPair
from oe.negotiation import ChildReady


class Installs:
    """Between `InstallChild` and `ChildInstalled`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._under_way: dict[int, ChildReady] = {}
        self._ended: set[int] = set()
        """Child SAs that ended while a half of them was on its way."""

    def ask(self, ready: ChildReady) -> None:
        """Ask for what the engine has keys for."""
        self._under_way[ready.ticket] = ready
        self._context.emit(InstallChild(ready.ticket, ready.child, ready.directions))

    def end(self, child: int) -> None:
        """A Child SA is over: if a half of it is on its way, nobody waits for it any more."""
        if any(ready.child.id == child for ready in self._under_way.values()):
            self._ended.add(child)

    def answered(self, ticket: int) -> tuple[ChildReady, bool] | None:
        """What the back end answers to, and whether it is still wanted; None: nothing that was asked for."""
        ready = self._under_way.pop(ticket, None)
        if ready is None:
            return None
        is_wanted = ready.child.id not in self._ended
        self._ended.discard(ready.child.id)
        return ready, is_wanted

    def bring(self, pair: HostPair) -> bool:
        """An outbound half of the pair is on its way: it will send soon."""
        return any(
            ready.child.pair == pair
            and ready.directions is not Directions.INBOUND
            and ready.child.id not in self._ended
            for ready in self._under_way.values()
        )

"""Answers kept for as long as they hold, and those who wait for answers that are still to come."""

from heapq import heappop, heappush

from oe.model import Address, KeyAnswer


class Cache:
    """Answers by owner, at most `size`; when full, the one not asked for the longest goes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: dict[Address, KeyAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, owner: Address, now: float) -> KeyAnswer | None:
        """The answer if it still holds."""
        answer = self._answers.pop(owner, None)
        if answer is None or answer.expires <= now:
            return None
        self._answers[owner] = answer
        return answer

    def put(self, answer: KeyAnswer, now: float) -> None:
        """Keep an answer until it expires; one that expires now is for its askers only."""
        self._answers.pop(answer.owner, None)
        if answer.expires <= now:
            return
        if len(self._answers) >= self._size:
            del self._answers[next(iter(self._answers))]
        self._answers[answer.owner] = answer

    def forget(self, owner: Address | None) -> None:
        """Drop the answer for one owner, or (None) all."""
        if owner is None:
            self._answers.clear()
        else:
            self._answers.pop(owner, None)


class Waiters:
    """Tickets that wait for the same answer, each until its own deadline."""

    def __init__(self) -> None:
        self._tickets: dict[Address, set[int]] = {}
        self._deadlines: list[tuple[float, int, Address]] = []

    def __contains__(self, owner: Address) -> bool:
        return owner in self._tickets

    def add(self, ticket: int, owner: Address, deadline: float) -> None:
        """`ticket` waits for the answer about `owner`."""
        self._tickets.setdefault(owner, set()).add(ticket)
        heappush(self._deadlines, (deadline, ticket, owner))

    def served(self, owner: Address) -> list[int]:
        """The tickets that waited for `owner`, oldest first; they wait no more."""
        return sorted(self._tickets.pop(owner, ()))

    def overdue(self, now: float) -> list[tuple[int, Address]]:
        """Tickets whose deadline has come, in that order; they wait no more."""
        late = []
        while (deadline := self.deadline()) is not None and deadline <= now:
            _, ticket, owner = heappop(self._deadlines)
            tickets = self._tickets[owner]
            tickets.remove(ticket)
            if not tickets:
                del self._tickets[owner]
            late.append((ticket, owner))
        return late

    def deadline(self) -> float | None:
        """When the next ticket gives up."""
        while self._deadlines:
            deadline, ticket, owner = self._deadlines[0]
            if ticket in self._tickets.get(owner, ()):
                return deadline
            heappop(self._deadlines)
        return None

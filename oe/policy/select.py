"""The choice of a policy group for a destination, and why it is that one."""

from dataclasses import dataclass

from oe.model import Address, Group
from oe.policy.groups import Entry, PolicySet
from oe.reasons import Reason

_BY_POLICY_ALONE = {
    Group.CLEAR: Reason.POLICY_CLEAR,
    Group.CLEAR_OR_PRIVATE: Reason.POLICY_CLEAR,
    Group.BLOCK: Reason.POLICY_BLOCK,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The group that holds for a destination, and why."""

    group: Group
    entry: Entry | None
    """The longest matching prefix; None: the destination is listed nowhere. In a closed set the entry may name a
    weaker group than `group`."""
    losers: tuple[Entry, ...]
    """Wider nets that also contain the destination, longest prefix first."""
    closed: bool = False
    """The set is closed, and for that reason alone `group` is `private`."""

    @property
    def reason(self) -> Reason | None:
        """Why packets pass or stop without a negotiation; None where the group asks for one."""
        if self.entry is None and not self.closed:
            return Reason.POLICY_UNLISTED
        return _BY_POLICY_ALONE.get(self.group)


def select(policies: PolicySet, destination: Address) -> Selection:
    """The longest prefix across all groups that contains `destination`; unlisted destinations are `clear`."""
    number = int(destination)
    matches = [
        entry
        for shift, entries in policies.levels[destination.version]
        if (entry := entries.get(number >> shift)) is not None
    ]
    entry = matches[0] if matches else None
    listed = Group.CLEAR if entry is None else entry.group
    group = policies.effective(listed)
    return Selection(group, entry, tuple(matches[1:]), closed=group is not listed)

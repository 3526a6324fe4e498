"""The daemon: owns every socket, carries out the coordinator's commands, feeds events back.

reload.py    what `oe reload` reads, refuses, and tells
machine.py   what this machine is: addresses, back end, resolver's user
hands.py     one method for every command
service.py   the loop: events in, commands out, timer, start and stop
"""

from oe.daemon.service import run

__all__ = ["run"]

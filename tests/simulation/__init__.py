"""Two and three complete gateways on virtual time: everything but the sockets is the product's own.

clock.py       one queue of events for the whole world
frames.py      what travels: IKE, ESP, packets in clear
link.py        how the network treats it
nat.py         a NAT in front of the host
adversary.py   somebody on the way who forges and repeats
kernel.py      a model of one machine's kernel: SAs, policies, decisions, held packets
names.py       the DNS, with delays, failures and withdrawals
station.py     one machine: the coordinator with its engine, its kernel, its crashes
traffic.py     applications that talk to each other
monitor.py     what must hold after every command and every frame
rest.py        what must hold when all is quiet: agreement, and empty books
scenario.py    from a seed to a scenario
world.py       from a scenario to machines and the ways between them
trouble.py     what goes wrong in it
simulation.py  storm, healing, agreement, rest: the verdict

`python -m tests.simulation --seeds 10000 --jobs 2` runs many; `--seed N` tells the story of one.
"""

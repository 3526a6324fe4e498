"""A day of two gateways on virtual time: does anything grow? Method and figures: docs/testing.md.

plan.py      addresses, policies and zones; who talks to whom, and when (pure)
world.py     two hosts with a link, resolvers and daemons
traffic.py   sends, echoes, and keeps books of what was lost
samples.py   what kernel and daemons hold at one moment
verdict.py   what must hold at the end (pure)
"""

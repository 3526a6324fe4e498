"""oe: opportunistic encryption for Linux. `docs/design.md` is the map of the house."""

"""Measurements: responder CPU per handshake, and how long a first connection waits. See docs/performance.md."""

"""Measurements: what a handshake costs the responder, and how long a first connection waits. See docs/performance.md."""

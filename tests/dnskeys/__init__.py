"""Tests of oe.dnskeys."""

"""Decode latency: suites that measure it, and the documents' tables of it."""

"""Proof from a bundle's files, and every engine on every other's streams."""

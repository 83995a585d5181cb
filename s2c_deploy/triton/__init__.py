"""Bundles into other people's systems: Triton model repositories, trtexec command lines.  No torch, and no engine."""

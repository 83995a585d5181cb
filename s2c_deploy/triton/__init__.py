"""Bundles as a Triton model repository.  No torch, and no engine."""

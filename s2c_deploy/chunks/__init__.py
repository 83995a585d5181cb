"""Chunks of zarr arrays as ``.s2c`` streams: for its format 2 by way of numcodecs, for format 3 as a codec of its own.

Neither module is imported here: each needs its package, and is found by an entry point.
"""

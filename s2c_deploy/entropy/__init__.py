"""Entropy coding: integer frequency tables and the interleaved rANS coder (formats: docs/entropy.md)."""

from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.entropy.tables import FrequencyTables, Table, gaussian_tables, table_from_pmf

__all__ = [
    "Decoder",
    "Encoder",
    "FrequencyTables",
    "Table",
    "Tables",
    "crc32c",
    "gaussian_tables",
    "table_from_pmf",
]

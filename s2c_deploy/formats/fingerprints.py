"""What streams are bound to, from a bundle's manifest (docs/bundle.md, "Fingerprint")."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from s2c_deploy.formats.manifest import TABLES
from s2c_deploy.formats.numbers import fingerprint_of


def fingerprint(manifest: Mapping[str, Any]) -> bytes:
    """SHA-256 that binds a stream to the numbers that decode it; of schema 1, to the files that hold them."""
    return file_fingerprint(manifest) if manifest["schema_version"] == 1 else fingerprint_of(manifest["numbers"])


#: The released models' fingerprints, and those that their streams carried when fingerprints were of files (schema 1).
EARLIER = {
    "3cf81e6123bc833c9aa19b86a3a775a3bf57be25d1d26c003ebd140b033429c6": "6dbe258a1c8bc3a3",  # conv-small
    "bf6160c8a66051a690762a864129f4af7b7873757f490641b246b5c24e3671f6": "5989281542f0186b",  # conv-tiny
    "5f376e1a6c33acee3b2c5de5245e895cbd3ed52d6fc5b575dcdaecb6c6eba795": "ede14b31ab667a84",  # hybrid-tiny
    "a84773e5eb428492b46d1eda73c36cffbd0ce563b0894ee3858a16d31fd60517": "0c56d96cb6be8cd8",  # attention-tiny
}


def stream_fingerprints(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What streams of a bundle may carry, 8 bytes in hex: the fingerprint of its numbers first; then the one of its
    files, and what a released model's was before."""
    own = str(manifest["fingerprint"])
    earlier = EARLIER.get(own)
    return tuple(name[:16] for name in (own, file_fingerprint(manifest).hex(), earlier) if name is not None)


def file_fingerprint(manifest: Mapping[str, Any]) -> bytes:
    """The fingerprint of schema 1: the integer graphs' files, the tables' and the model's weights.

    A bundle of schema 2 that has the same files reads the streams of that one, too.
    """
    files = manifest["files"]
    exact = sorted(str(graph["file"]) for graph in manifest["graphs"].values() if graph["exact"])
    lines = [f"{name} {files[name]['sha256']}" for name in (*exact, TABLES)]
    lines.append(f"weights {manifest['weights_sha256']}")
    return hashlib.sha256("\n".join(lines).encode()).digest()

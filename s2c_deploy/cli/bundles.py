"""Which bundle a command means when it is not told."""

from __future__ import annotations

import os
from pathlib import Path

from s2c_deploy.errors import BitstreamError, BundleError, InputError

ENGINES = Path("engines")
BUNDLE_VARIABLE = "S2C_BUNDLE"


def known_bundles() -> list[Path]:
    """Bundles under ./engines, by name; hidden folders are those of an export that was interrupted."""
    return sorted(manifest.parent for manifest in ENGINES.glob("[!.]*/manifest.json"))


def bundle_to_write_with(given: Path | None) -> Path:
    """--bundle, else $S2C_BUNDLE, else the only bundle under ./engines."""
    if given is not None:
        return given
    if os.environ.get(BUNDLE_VARIABLE):
        return Path(os.environ[BUNDLE_VARIABLE])
    bundles = known_bundles()
    if not bundles:
        raise InputError(f"no bundle under {ENGINES}/", hint="make one: s2c-deploy export --variant conv")
    if len(bundles) > 1:
        names = ", ".join(map(str, bundles))
        raise InputError(f"several bundles: {names}", hint=f"choose one with --bundle or ${BUNDLE_VARIABLE}")
    return bundles[0]


def bundle_of_stream(given: Path | None, fingerprint: bytes, model: str) -> Path:
    """--bundle or $S2C_BUNDLE as they are; else the bundle under ./engines that a stream's fingerprint names."""
    if given is not None or os.environ.get(BUNDLE_VARIABLE):
        return bundle_to_write_with(given)
    from s2c_deploy.manifest import read_manifest

    found = []
    for path in known_bundles():
        try:
            manifest = read_manifest(path)
        except BundleError:  # somebody else's: this stream need not suffer
            found.append(f"damaged ({path})")
            continue
        if manifest["fingerprint"].startswith(fingerprint.hex()):
            return path
        found.append(f"{manifest['fingerprint'][:16]} ({path})")
    raise BitstreamError(
        "fingerprint",
        expected=", ".join(found) or f"a bundle under {ENGINES}/",
        found=f"{fingerprint.hex()} ({model})",
        hint="decompress with the bundle that made the stream: --bundle",
    )

"""What the figures depend on: processor, threads, clocks, versions, the very files."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import s2c_deploy
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.host import usable_processors
from s2c_deploy.runtime.backends import installed_version

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "compressai", "tensorrt", "tensorrt-rtx")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")
_CPU = Path("/sys/devices/system/cpu")


def load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything, as JSON's types; None where the system does not say."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "s2c_deploy": s2c_deploy.__version__,
        "commit": _commit(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "usable_processors": usable_processors(),
        "governor": _line(_CPU / "cpu0/cpufreq/scaling_governor"),
        "clock_khz": _line(_CPU / "cpu0/cpufreq/scaling_cur_freq"),
        "boost": _line(_CPU / "cpufreq/boost"),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := installed_version(name)) is not None},
        "variables": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "load_before": load(),
        "bundle": bundle.config.name,
        "fingerprint": bundle.fingerprint.hex(),
        "weights_sha256": bundle.manifest["weights_sha256"],
        "files": {name: entry["sha256"] for name, entry in bundle.manifest["files"].items()},
    }


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _commit() -> str | None:
    """Of the checkout that this package runs from, with a + behind it where files differ; None for an installed one."""
    root = Path(s2c_deploy.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None

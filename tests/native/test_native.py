"""The C library by itself: its own test program under the sanitizers, and its header in C++."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "native" / "src").glob("*.c"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]


PROGRAM = ROOT / "tests" / "native" / "coder_test.c"
INCLUDE = ["-I", ROOT / "native" / "include"]


def compiler(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    return found


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("sanitizers", "optimise"), [("address,undefined", "-O1"), ("address,undefined", "-O3"), ("thread", "-O2")]
)
def test_the_c_program_passes_under_the_sanitizers(tmp_path, sanitizers, optimise):
    program = tmp_path / "coder_test"
    cc = compiler("cc", "gcc", "clang")
    flags = ["-std=c11", "-g", optimise, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-pthread"]
    run(cc, *flags, *INCLUDE, PROGRAM, *SOURCES, "-o", program)
    assert run(program).endswith("ok\n")


def test_the_sources_compile_without_warnings(tmp_path):
    cc = compiler("cc", "gcc", "clang")
    for source in SOURCES:
        run(cc, "-std=c11", "-O2", "-pedantic", *WARNINGS, *INCLUDE, "-c", source, "-o", tmp_path / "x.o")


def test_the_header_compiles_as_cpp(tmp_path):
    cxx = compiler("c++", "g++", "clang++")
    source = tmp_path / "use.cpp"
    source.write_text('#include "s2c.h"\nint main() { return s2c_version() == S2C_VERSION ? 0 : 1; }\n')
    run(cxx, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", *INCLUDE, source)

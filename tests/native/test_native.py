"""The C library by itself: its own test program under the sanitizers, and its header in C++."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "native" / "src").glob("*.c"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]


PROGRAM = ROOT / "tests" / "native" / "coder_test.c"
INCLUDE = ["-I", ROOT / "native" / "include"]


FEED = """
#include <stdint.h>
#include <stdio.h>
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int main(int argc, char **argv)
{
    static uint8_t data[65536];
    LLVMFuzzerInitialize(&argc, &argv);
    for (int k = 1; k < argc; k++) {
        FILE *file = fopen(argv[k], "rb");
        if (file == NULL)
            return 1;
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
"""


def compiler(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    return found


def run(*command: object, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("sanitizers", "optimise", "arguments"),
    [("address,undefined", "-O1", []), ("address,undefined", "-O3", []), ("thread", "-O1", ["threads"])],
)
def test_the_c_program_passes_under_the_sanitizers(tmp_path, sanitizers, optimise, arguments):
    program = tmp_path / "coder_test"
    cc = compiler("cc", "gcc", "clang")
    flags = ["-std=c11", "-g", optimise, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-pthread"]
    run(cc, *flags, *INCLUDE, PROGRAM, *SOURCES, "-o", program)
    assert run(program, *arguments).endswith("ok\n")


def test_the_c_program_passes_on_another_processor(tmp_path):
    """The portable kernels on aarch64, emulated."""
    program = tmp_path / "coder_test"
    cc, emulator = compiler("aarch64-linux-gnu-gcc"), compiler("qemu-aarch64", "qemu-aarch64-static")
    run(cc, "-std=c11", "-O2", "-static", "-pthread", *INCLUDE, PROGRAM, *SOURCES, "-o", program)
    assert run(emulator, program).endswith("ok\n")


@pytest.mark.parametrize("simd", ["", "scalar"])
def test_mutated_sections_are_refused_or_exact(tmp_path, simd):
    """Ten thousand here; the same program takes a million (docs/entropy.md)."""
    program = tmp_path / "mutations"
    cc = compiler("cc", "gcc", "clang")
    flags = ["-std=c11", "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
    run(cc, *flags, *INCLUDE, PROGRAM.with_name("mutations.c"), *SOURCES, "-o", program)
    assert "past the checksum: 0" in run(program, 10000, env={"S2C_SIMD": simd})


def test_half_a_minute_of_fuzzing_finds_nothing(tmp_path):
    """`make fuzz` for longer; libFuzzer comes with clang only."""
    native, cc, program = ROOT / "native", compiler("clang"), tmp_path / "fuzz"
    empty = tmp_path / "empty.c"
    empty.write_text("int LLVMFuzzerTestOneInput(const char *d, long n) { (void)d; (void)n; return 0; }\n")
    sanitizers = "-fsanitize=fuzzer,address,undefined"
    if subprocess.run([cc, sanitizers, empty, "-o", tmp_path / "empty"], capture_output=True, check=False).returncode:
        pytest.skip("this clang has no libFuzzer")
    flags = ["-std=gnu11", "-g", "-O1", sanitizers, "-fno-sanitize-recover=all", "-pthread"]
    run(cc, *flags, *INCLUDE, native / "fuzz" / "fuzz_decoder.c", *SOURCES, "-o", program)
    found = tmp_path / "found"
    found.mkdir()
    # A child's peak memory starts at its parent's, here pytest's: libFuzzer's limit on it would blame the decoder for
    # that.  The limit on one allocation stays.
    memory = ["-rss_limit_mb=0", "-malloc_limit_mb=64"]
    arguments = ["-max_total_time=30", "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"]
    command = [program, *arguments, *memory, found, native / "fuzz" / "corpus"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    executed = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert int(executed.split()[-1]) > 1000


def test_the_fuzz_target_runs_on_its_corpus(tmp_path):
    """The same function, fed the corpus by a main of its own: needs no clang."""
    native = ROOT / "native"
    corpus = sorted((native / "fuzz" / "corpus").iterdir())
    assert corpus
    feed = tmp_path / "feed.c"
    feed.write_text(FEED)
    program = tmp_path / "feed"
    flags = ["-std=gnu11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
    cc = compiler("cc", "gcc", "clang")
    run(cc, *flags, *INCLUDE, feed, native / "fuzz" / "fuzz_decoder.c", *SOURCES, "-o", program)
    run(program, *corpus)


def test_an_installed_library_is_found_and_used(tmp_path):
    """CMake install, then the example by pkg-config and by find_package."""
    cmake, config, cc = compiler("cmake"), compiler("pkg-config"), compiler("cc", "gcc", "clang")
    prefix, example = tmp_path / "prefix", ROOT / "native" / "examples" / "roundtrip.c"
    run(cmake, "-S", ROOT / "native", "-B", tmp_path / "build", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DS2C_WERROR=ON")
    run(cmake, "--build", tmp_path / "build")
    run(cmake, "--install", tmp_path / "build")
    (library,) = prefix.glob("**/libs2c_native.so.2.0.0" if sys.platform == "linux" else "**/libs2c_native.2.0.0.*")
    environment = {"PKG_CONFIG_PATH": str(library.parent / "pkgconfig")}
    flags = run(config, "--cflags", "--libs", "s2c", env=environment).split()
    run(cc, example, *flags, f"-Wl,-rpath,{library.parent}", "-o", tmp_path / "roundtrip")
    assert "the same came back" in run(tmp_path / "roundtrip")

    user = tmp_path / "user"
    user.mkdir()
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user LANGUAGES C)\nfind_package(s2c 2 REQUIRED)\n"
        f'add_executable(user "{example}")\ntarget_link_libraries(user PRIVATE s2c::s2c_native)\n'
    )
    run(cmake, "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", user / "build")
    assert "the same came back" in run(user / "build" / "user")


def test_the_sources_compile_without_warnings(tmp_path):
    cc = compiler("cc", "gcc", "clang")
    for source in SOURCES:
        run(cc, "-std=c11", "-O2", "-pedantic", *WARNINGS, *INCLUDE, "-c", source, "-o", tmp_path / "x.o")


def test_the_header_compiles_as_cpp(tmp_path):
    cxx = compiler("c++", "g++", "clang++")
    source = tmp_path / "use.cpp"
    source.write_text('#include "s2c.h"\nint main() { return s2c_version() == S2C_VERSION ? 0 : 1; }\n')
    run(cxx, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", *INCLUDE, source)

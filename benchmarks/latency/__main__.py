"""The suites behind the latency figures of a release.  Each writes every raw sample and the environment.

    python -m benchmarks.latency decode --images KODAK     # pictures, every row
    python -m benchmarks.latency sizes                     # one photograph from 256x256 up: ms and memory per megapixel
    python -m benchmarks.latency threads                   # 1 .. all cores
    python -m benchmarks.latency entropy                   # everything before g_s, over the range of quality

    python -m benchmarks.latency tables                    # writes the documents' tables from the committed results
    python -m benchmarks.latency tables --print            # shows them
    python -m benchmarks.latency tables --check            # exit code 1 if a document's is another

Nothing else should run while a suite does.  ``sizes`` opens every row anew for each size, so that peak memory is that
size's; a row that fails at a size (out of memory, usually) says so and is not tried on larger ones.  Beyond 2048x2048
rows are measured one after another instead of taking turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.latency.suites import RESULTS, SIZES, run_suite
from benchmarks.latency.tables import DOCUMENTS, block, suite_tables, write_documents


def parse() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    options.add_argument("--weights", type=Path, help="model folder; the released one if not given")
    options.add_argument("--images", type=Path, default=Path("export/photographs"))
    options.add_argument("--rows", default="auto", help="with commas between")
    options.add_argument("--sizes", nargs="+", default=SIZES)
    options.add_argument("--min-seconds", type=float, default=10)
    options.add_argument("--min-count", type=int, default=20)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--results", type=Path, default=RESULTS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for suite in ("decode", "sizes", "threads", "entropy"):
        commands.add_parser(suite, parents=[options])
    tables = commands.add_parser("tables").add_mutually_exclusive_group()
    tables.add_argument("--print", action="store_true")
    tables.add_argument("--check", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.command != "tables":
        runs, path = run_suite(arguments.command, arguments)
        print(f"{suite_tables(arguments.command, runs)}\n\n{path}")
    elif arguments.print:
        print("".join(f"{block(name)}\n\n" for name in DOCUMENTS), end="")
    else:
        write_documents(check=arguments.check)


if __name__ == "__main__":
    main()

"""A bundle for the C++ decoder: channels, tables, gains, graphs and known answers, as text and plain float32.

    python describe_model.py engines/conv-small model.txt                       # the .onnx files
    python describe_model.py engines/conv-small model.txt --target tensorrt     # this user's engines

Everything is checked here, by the library: the bundle's hashes, and that engines are those that this user built. The
hashes it writes are what the C++ program holds its files against.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from s2c_deploy.errors import EngineError, S2CError
from s2c_deploy.files import atomic_write
from s2c_deploy.formats.bundle import Bundle, exact_graphs, graph_names, open_bundle
from s2c_deploy.host import this_host
from s2c_deploy.runtime.probe import known_probes
from s2c_deploy.tensorrt import EngineStore


def graph_lines(bundle: Bundle, target: str, precision: str) -> Iterator[str]:
    """name SHA-256 path, of every graph that decoding needs."""
    entries = EngineStore(bundle, host=this_host()).entries() if target != "onnx" else []
    # By what they are; the file name says no more than whoever named it knew.
    good = {
        (i.target, i.graph, i.precision): (i.sha256, entry.path)
        for entry in entries
        if entry.problem is None and (i := entry.identity) is not None
    }
    for name in graph_names(bundle.config):
        if name in ("g_a", "h_a"):
            continue
        if target == "onnx":
            path = bundle.graph(name)
            yield f"{name} {bundle.manifest['files'][path.name]['sha256']} {path.resolve()}"
            continue
        wanted = precision if name == "g_s" else "float32"
        if (target, name, wanted) not in good:
            raise EngineError(f"no good {target} engine of {name} at {wanted}", hint="s2c-deploy engines verify")
        digest, path = good[target, name, wanted]
        yield f"{name} {digest} {path.resolve()}"


def description(bundle: Bundle, target: str, precision: str) -> Iterator[str]:
    config, tables, gains = bundle.config, bundle.tables, bundle.gains
    yield "s2c-model 1"
    yield f"fingerprint {bundle.fingerprint[:8].hex()}"
    yield f"channels {config.latent_channels} {config.hyper_channels}"
    yield f"groups {' '.join(map(str, config.groups))}"
    yield f"tables {tables.count} {tables.skip_below}"
    for t in range(tables.count):
        freqs = tables.freqs[tables.starts[t] : tables.starts[t] + tables.sizes[t]]
        yield f"{tables.centers[t]} {tables.shifts[t]} {tables.sizes[t]} {' '.join(map(str, freqs))}"
    yield f"levels {config.levels}"
    for gain, indexes in zip(gains.inverse_gain, gains.z_indexes, strict=True):
        yield " ".join(f"{value:.9g}" for value in gain)  # nine digits give a float32 back
        yield " ".join(map(str, indexes))
    graphs = list(graph_lines(bundle, target, precision))
    yield f"graphs {len(graphs)}"
    yield from graphs


def answers(bundle: Bundle) -> Iterator[tuple[str, np.ndarray]]:
    """A line and an array for each tensor of the exact graphs' known answers; "first" begins a new answer.

    Known answers may be batches; engines are built for one picture at a time.
    """
    arrays = bundle.known_answers()
    for graph in exact_graphs(bundle.config):
        for probe in known_probes(graph, arrays, exact=True):
            tensors = [("in", *item) for item in probe.inputs.items()]
            tensors += [("out", *item) for item in probe.outputs.items()]
            for number in range(len(tensors[0][2])):
                for k, (kind, name, batch) in enumerate(tensors):
                    array = batch[number : number + 1]
                    yield f"{graph} {'first' if k == 0 else kind} {name} {' '.join(map(str, array.shape))}", array


def main() -> int:
    parser = argparse.ArgumentParser(description="Describe a bundle for the C++ decoder.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", choices=["onnx", "tensorrt", "tensorrt-rtx"], default="onnx")
    parser.add_argument("--precision", choices=["float16", "float32"], default="float16", help="of g_s's engine")
    given = parser.parse_args()
    try:
        bundle = open_bundle(given.bundle)
        lines = list(description(bundle, given.target, given.precision))
        known = list(answers(bundle))
        with atomic_write(f"{given.out}.answers") as temporary:
            temporary.write_bytes(b"".join(array.astype("<f4").tobytes() for _, array in known))
        with atomic_write(given.out) as temporary:
            temporary.write_text("\n".join([*lines, f"answers {len(known)}", *(line for line, _ in known)]) + "\n")
    except S2CError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

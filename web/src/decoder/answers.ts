/** A graph is held against its known answers before it is used: docs/bundle.md, and docs/browser.md for web bundles. */

import { BundleError, EngineError } from "./errors.js";
import { sha256 } from "./files.js";
import type { Graph, Tensor, Tensors } from "./graphs.js";
import { type GraphEntry, KNOWN_ANSWERS, type Probe } from "./manifest.js";
import type { Arrays } from "./npz.js";

/** Largest difference of a float graph's output, relative to that output's largest magnitude. */
const TOLERANCE = 1e-4;
/** Parts of their range that the pictures of a probe's batch span. */
const RANGE_PARTS = [1, 8, 64, 512];

/** EngineError where a graph does not give what it should. */
export async function checkAnswers(graph: Graph, entry: GraphEntry, answers: Arrays): Promise<void> {
  if (entry.probe) return checkProbe(graph, entry.probe);
  const names = entry.exact ? [graph.name, `${graph.name}@range`] : [graph.name];
  for (const name of names) {
    const [inputs, outputs] = [side(answers, `${name}/in/`), side(answers, `${name}/out/`)];
    const missing = entry.outputs.find((output) => !(output in outputs));
    if (missing) throw new BundleError(`${KNOWN_ANSWERS}: expected ${name}/out/${missing}, found none`);
    const found = await graph.run(inputs);
    for (const output of entry.outputs) compare(graph.name, output, outputs[output]!, found[output], entry.exact);
  }
}

function side(answers: Arrays, prefix: string): Tensors {
  const found = [...answers].filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(
    found.map(([name, { shape, data }]) => [name.slice(prefix.length), { shape, data: Float32Array.from(data) }]),
  );
}

function compare(graph: string, output: string, expected: Tensor, found: Tensor | undefined, exact: boolean): void {
  if (found?.shape.join() !== expected.shape.join())
    throw new EngineError(`${graph}: ${output}: expected shape ${expected.shape.join("x")}, found ${found?.shape.join("x")}`);
  const largest = expected.data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  const limit = exact ? 0 : TOLERANCE * largest;
  for (const [place, value] of expected.data.entries()) {
    // Not-a-number compares false with everything, so what counts is what is found right.
    const right = Math.abs(found.data[place]! - value) <= limit;
    if (!right || (exact && !Number.isInteger(value)))
      throw new EngineError(`${graph}: ${output} at ${place}: expected ${value}, found ${found.data[place]}, its known answer`);
  }
}

async function checkProbe(graph: Graph, probe: Probe): Promise<void> {
  const inputs = probe.inputs.map(({ name, shape, low, high }, number) => [name, probeInput(number, shape, low, high)]);
  const found = await graph.run(Object.fromEntries(inputs));
  for (const [output, expected] of Object.entries(probe.outputs)) {
    const data = found[output]?.data ?? new Float32Array();
    const place = data.findIndex((value) => !Number.isInteger(value));
    if (place >= 0) throw new EngineError(`${graph.name}: ${output} at ${place}: expected a whole number, found ${data[place]}`);
    const hash = await sha256(new Uint8Array(Int32Array.from(data).buffer));
    if (hash !== expected)
      throw new EngineError(`${graph.name}: ${output}: expected SHA-256 ${expected} of its known answer, found ${hash}`);
  }
}

/** The input of this number: whole numbers over parts of its range, by the rule of docs/browser.md. */
export function probeInput(number: number, shape: readonly number[], low: number, high: number): Tensor {
  const data = new Float32Array(shape.reduce((product, side) => product * side, 1));
  const picture = data.length / shape[0]!;
  for (let place = 0; place < data.length; place++) {
    const part = RANGE_PARTS[Math.floor(place / picture)]!;
    const [first, last] = [Math.trunc(low / part), Math.max(1, Math.trunc(high / part))];
    data[place] = first + (mixed(place + Math.imul(0x9e3779b9, number + 1)) % (last - first + 1));
  }
  return { shape, data };
}

/** The last steps of MurmurHash3: every bit of 32 depends on every other. */
function mixed(value: number): number {
  value ^= value >>> 16;
  value = Math.imul(value, 0x85ebca6b);
  value ^= value >>> 13;
  value = Math.imul(value, 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

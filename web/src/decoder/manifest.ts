/** manifest.json of a bundle (docs/bundle.md), or of a web bundle (docs/browser.md): what decoding needs of it. */

import { BundleError } from "./errors.js";

export const TABLES = "tables.npz";
export const KNOWN_ANSWERS = "known_answers.npz";
const MAX_MANIFEST = 4 << 20;
const SCHEMA = 2;
const WEB_SCHEMA = 1;
const GROUPS = 5;

/** Of an exact graph in a web bundle: inputs that a rule gives, and the hashes of what must come out. */
export interface Probe {
  readonly inputs: readonly { name: string; shape: number[]; low: number; high: number }[];
  readonly outputs: Readonly<Record<string, string>>;
}

/** What g_s looks at around a block, in positions of the latent. */
export interface Field {
  readonly before: number;
  readonly after: number;
  readonly unit: number;
}

export interface GraphEntry {
  readonly file: string;
  readonly exact: boolean;
  readonly outputs: readonly string[];
  /** Only in web bundles. */
  readonly probe: Probe | null;
  readonly field: Field | null;
}

export interface FileEntry {
  readonly size: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly name: string;
  readonly latent: number;
  readonly hyper: number;
  readonly levels: number;
  readonly fingerprint: string;
  /** What streams may carry, 16 hexadecimal digits each; null: to be made from the files (`fingerprints.ts`). */
  readonly reads: readonly string[] | null;
  /** Schema 1 has none. */
  readonly numbers: Readonly<Record<string, { dtype: string; shape: number[]; sha256: string }>> | null;
  readonly weightsHash: string;
  readonly files: Readonly<Record<string, FileEntry>>;
  readonly graphs: Readonly<Record<string, GraphEntry>>;
}

type Json = Record<string, unknown>;

function bad(where: string, expected: string, found: unknown): never {
  const text = JSON.stringify(found) ?? "nothing";
  throw new BundleError(`manifest.json: ${where}: expected ${expected}, found ${text.slice(0, 80)}`);
}

function object(where: string, value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return bad(where, "an object", value);
  return value as Json;
}

function whole(where: string, value: unknown, low: number, high: number): number {
  if (!Number.isInteger(value) || (value as number) < low || (value as number) > high)
    return bad(where, `a whole number of ${low} to ${high}`, value);
  return value as number;
}

function text(where: string, value: unknown, form: RegExp): string {
  if (typeof value !== "string" || !form.test(value)) return bad(where, `a string of the form ${form}`, value);
  return value;
}

function list(where: string, value: unknown): unknown[] {
  return Array.isArray(value) ? value : bad(where, "a list", value);
}

const HASH = /^[0-9a-f]{64}$/;
const FILE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const WORD = /^[ -~]{1,128}$/;

/** BundleError for what is no manifest, or of a later schema. */
export function parseManifest(data: Uint8Array): Manifest {
  if (data.length > MAX_MANIFEST) bad("size", `at most ${MAX_MANIFEST} bytes`, data.length);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch (error) {
    bad("text", "JSON", (error as Error).message);
  }
  const json = object("text", parsed);
  const web = "web_schema" in json;
  if (web) whole("web_schema", json.web_schema, 1, WEB_SCHEMA);
  const schema = web ? SCHEMA : whole("schema_version", json.schema_version, 1, SCHEMA);
  const model = object("model", json.model);
  const files = object("files", json.files);
  return {
    name: text("name", json.name, WORD),
    latent: whole("model: latent_channels", model.latent_channels, 1, 65536),
    hyper: whole("model: hyper_channels", model.hyper_channels, 1, 65536),
    levels: list("model: lmbdas", model.lmbdas).length,
    fingerprint: text("fingerprint", json.fingerprint, HASH),
    reads: web ? list("reads", json.reads).map((name) => text("reads", name, /^[0-9a-f]{16}$/)) : null,
    numbers: schema === 1 ? null : numbers(json.numbers),
    weightsHash: text("weights_sha256", json.weights_sha256, HASH),
    files: Object.fromEntries(Object.entries(files).map(([name, entry]) => [name, fileEntry(name, entry)])),
    graphs: graphs(object("graphs", json.graphs), files, web),
  };
}

function fileEntry(name: string, value: unknown): FileEntry {
  const entry = object(`files: ${text("files", name, FILE)}`, value);
  return { size: whole(`${name}: size`, entry.size, 0, 2 ** 31), sha256: text(`${name}: sha256`, entry.sha256, HASH) };
}

function numbers(value: unknown): Manifest["numbers"] {
  const entries = Object.entries(object("numbers", value)).map(([name, described]) => {
    const { dtype, shape, sha256 } = object(`numbers: ${name}`, described);
    const sides = list(`${name}: shape`, shape).map((side) => whole(`${name}: shape`, side, 0, 2 ** 31));
    return [name, { dtype: text(`${name}: dtype`, dtype, WORD), shape: sides, sha256: text(name, sha256, HASH) }] as const;
  });
  return Object.fromEntries(entries);
}

function graphs(json: Json, files: Json, web: boolean): Manifest["graphs"] {
  const found: Record<string, GraphEntry> = {};
  for (const [name, value] of Object.entries(json)) {
    const entry = object(`graphs: ${name}`, value);
    // Files have their graphs' names: nothing else says which is which.
    if (entry.file !== `${name}.onnx` || !Object.hasOwn(files, entry.file)) bad(`${name}: file`, `${name}.onnx, listed`, entry.file);
    if (typeof entry.exact !== "boolean") bad(`${name}: exact`, "true or false", entry.exact);
    const outputs = list(`${name}: outputs`, entry.outputs).map((output) =>
      text(`${name}: outputs`, object(`${name}: outputs`, output).name, WORD),
    );
    const probe = web && entry.exact ? parseProbe(name, entry.probe, outputs) : null;
    const field = web && !entry.exact ? parseField(name, entry.field) : null;
    found[name] = { file: entry.file, exact: entry.exact, outputs, probe, field };
  }
  return found;
}

function parseProbe(graph: string, value: unknown, names: readonly string[]): Probe {
  const json = object(`${graph}: probe`, value);
  const inputs = list(`${graph}: probe: inputs`, json.inputs).map((item) => {
    const input = object(`${graph}: probe: inputs`, item);
    const shape = list(`${graph}: shape`, input.shape).map((side) => whole(`${graph}: shape`, side, 1, 65536));
    if (shape.length !== 4 || shape[0]! * shape[2]! * shape[3]! > 512 * 512) bad(`${graph}: shape`, "four sides of a small picture", shape);
    const [low, high] = [input.low, input.high].map((end) => whole(`${graph}: range`, end, -(2 ** 24), 2 ** 24));
    return { name: text(`${graph}: probe`, input.name, WORD), shape, low: low!, high: high! };
  });
  const answers = object(`${graph}: probe: outputs`, json.outputs);
  const outputs = Object.fromEntries(names.map((name) => [name, text(`${graph}: probe: ${name}`, answers[name], HASH)]));
  return { inputs, outputs };
}

function parseField(graph: string, value: unknown): Field {
  const json = object(`${graph}: field`, value);
  const [before, after] = [json.before, json.after].map((side) => whole(`${graph}: field`, side, 0, 512));
  return { before: before!, after: after!, unit: whole(`${graph}: field: unit`, json.unit, 1, 512) };
}

/** Channels of the five latent groups (docs/bundle.md, "Latent groups"). */
export function groups(latent: number): number[] {
  const first = [16, 16, 32, 64].map((part) => Math.max(8, 8 * roundHalfToEven((latent * part) / 2560)));
  const rest = latent - first.reduce((sum, channels) => sum + channels, 0);
  if (rest <= 0) bad("model: latent_channels", `enough for ${GROUPS} groups`, latent);
  return [...first, rest];
}

function roundHalfToEven(value: number): number {
  const down = Math.floor(value);
  return value - down > 0.5 || (value - down === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/**
 * The graphs that decoding runs, the exact ones first.
 *
 * synthesis: `full`, or a lighter g_s of the bundle; by default the full one, or the one there is.
 */
export function decodingGraphs(manifest: Manifest, synthesis?: string): string[] {
  const contexts = [...Array(GROUPS).keys()].flatMap((k) => [`context_${k}_anchor`, `context_${k}_nonanchor`]);
  const there = Object.keys(manifest.graphs).filter((name) => name.startsWith("g_s."));
  const byDefault = !Object.hasOwn(manifest.graphs, "g_s") && there.length === 1 ? there[0]! : "g_s";
  const drawing = synthesis === undefined ? byDefault : synthesis === "full" ? "g_s" : `g_s.${synthesis}`;
  const wanted = ["h_s", ...contexts, drawing];
  for (const name of wanted) {
    const entry = Object.hasOwn(manifest.graphs, name) ? manifest.graphs[name] : undefined;
    if (!entry) throw new BundleError(`graphs: expected ${name}, found ${Object.keys(manifest.graphs).join(", ")}`);
    if (entry.exact !== (name !== drawing)) bad(`graphs: ${name}: exact`, String(name !== drawing), entry.exact);
  }
  return wanted;
}

/** What streams are bound to, from a bundle's manifest (docs/bundle.md, "Fingerprint"). */

import { BundleError } from "./errors.js";
import { sha256 } from "./files.js";
import { type Manifest, TABLES } from "./manifest.js";

/** The released models' fingerprints, and those that their streams carried in schema 1. */
const EARLIER: Record<string, string> = {
  "3cf81e6123bc833c": "6dbe258a1c8bc3a3",
  bf6160c8a66051a6: "5989281542f0186b",
  "5f376e1a6c33acee": "ede14b31ab667a84",
  a84773e5eb428492: "0c56d96cb6be8cd8",
};

function byName<T>(entries: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : 1));
}

function hashOfLines(lines: readonly string[]): Promise<string> {
  return sha256(new TextEncoder().encode(lines.join("\n")));
}

function ofNumbers(numbers: NonNullable<Manifest["numbers"]>): Promise<string> {
  const lines = byName(numbers).map(([name, { dtype, shape, sha256 }]) => `${name} ${dtype} ${shape.join("x")} ${sha256}`);
  return hashOfLines(["s2c numbers 1", ...lines]);
}

function ofFiles(manifest: Manifest): Promise<string> {
  const exact = Object.values(manifest.graphs).filter((graph) => graph.exact).map((graph) => graph.file).sort();
  const lines = [...exact, TABLES].map((name) => `${name} ${manifest.files[name]?.sha256}`);
  return hashOfLines([...lines, `weights ${manifest.weightsHash}`]);
}

/** What streams of a bundle may carry, 16 hexadecimal digits each; BundleError where its fingerprint is not the formula's. */
export async function streamFingerprints(manifest: Manifest): Promise<string[]> {
  const bound = manifest.numbers ? await ofNumbers(manifest.numbers) : await ofFiles(manifest);
  if (bound !== manifest.fingerprint)
    throw new BundleError(`manifest.json: fingerprint: expected ${bound}, found ${manifest.fingerprint}`);
  const own = bound.slice(0, 16);
  if (manifest.reads) return [...new Set([own, ...manifest.reads])];
  const earlier = EARLIER[own];
  return [own, (await ofFiles(manifest)).slice(0, 16), ...(earlier ? [earlier] : [])];
}

/** tables.npz: frequency tables, and what a quality means (docs/bundle.md). */

import type { FrequencyTables } from "./coder.js";
import { BundleError } from "./errors.js";
import { sha256 } from "./files.js";
import { type Manifest, TABLES } from "./manifest.js";
import { type Arrays, type NpyArray, parseNpz } from "./npz.js";

const FEWEST_TABLES = 64;

export interface Tables {
  readonly frequencies: FrequencyTables;
  /** float32, 1 x M x 1 x 1, of a quality. */
  inverseGain(quality: number): Float32Array;
  /** The table of each hyper-latent channel at a quality. */
  hyperIndexes(quality: number): Uint8Array;
}

function bad(what: string): never {
  throw new BundleError(`${TABLES}: ${what}`);
}

function take(arrays: Arrays, name: string, dtype: string, ...shape: number[]): NpyArray {
  const array = arrays.get(name);
  if (!array) return bad(`expected an array ${name}, found ${[...arrays.keys()].join(", ")}`);
  const wanted = `${dtype} ${shape.join("x")}`;
  const found = `${array.dtype} ${array.shape.join("x")}`;
  if (wanted !== found) bad(`${name}: expected ${wanted}, found ${found}`);
  return array;
}

/** BundleError for arrays that are not those of the model, or not those of the manifest's numbers. */
export async function readTables(data: Uint8Array, manifest: Manifest): Promise<Tables> {
  const arrays = parseNpz(TABLES, data);
  const { levels, latent, hyper } = manifest;
  const count = arrays.get("sizes")?.shape[0] ?? 0;
  if (count < FEWEST_TABLES) bad(`sizes: expected ${FEWEST_TABLES} tables or more, found ${count}`);
  const sizes = take(arrays, "sizes", "uint16", count);
  const entries = (sizes.data as Uint16Array).reduce((sum, size) => sum + size, 0);
  const freqs = take(arrays, "freqs", "uint16", entries);
  const centers = take(arrays, "centers", "int32", count);
  const shifts = take(arrays, "shifts", "uint8", count);
  const skip = arrays.get("skip_below");
  const skipBelow = skip?.data[0];
  if (skip?.data.length !== 1 || skipBelow === undefined || !(skipBelow >= 0 && skipBelow <= count))
    return bad(`skip_below: expected a number of 0 to ${count}`);
  const gains = take(arrays, "inverse_gain", "float32", levels, latent);
  const indexes = take(arrays, "z_indexes", "uint8", levels, hyper);
  if ((gains.data as Float32Array).some((gain) => !(gain >= 2 ** -32 && gain <= 2 ** 32)))
    bad("inverse_gain: expected values between 2^-32 and 2^32");
  if ((indexes.data as Uint8Array).some((index) => index >= count)) bad(`z_indexes: expected values below ${count}`);
  await checkNumbers(manifest, {
    "tables.sizes": sizes.bytes,
    "tables.freqs": freqs.bytes,
    "tables.centers": centers.bytes,
    "tables.shifts": shifts.bytes,
    "tables.skip_below": new Uint8Array(Int32Array.of(skipBelow).buffer),
    inverse_gain: gains.bytes,
    z_indexes: indexes.bytes,
  });
  const frequencies = {
    sizes: sizes.data as Uint16Array,
    freqs: freqs.data as Uint16Array,
    centers: centers.data as Int32Array,
    shifts: shifts.data as Uint8Array,
    skipBelow,
  };
  return {
    frequencies,
    inverseGain: (quality) => between(gains.data as Float32Array, levels, latent, quality),
    hyperIndexes: (quality) => {
      const { low, part } = level(levels, quality);
      const row = low + (part >= 0.5 ? 1 : 0);
      return (indexes.data as Uint8Array).subarray(row * hyper, (row + 1) * hyper);
    },
  };
}

async function checkNumbers(manifest: Manifest, arrays: Record<string, Uint8Array>): Promise<void> {
  if (!manifest.numbers) return;
  for (const [name, bytes] of Object.entries(arrays)) {
    const [expected, found] = [manifest.numbers[name]?.sha256, await sha256(Uint8Array.from(bytes))];
    if (found !== expected) bad(`${name}: expected SHA-256 ${expected} of the manifest's numbers, found ${found}`);
  }
}

/** A quality's place among the levels: the lower one, and how far it is to the next. */
function level(levels: number, quality: number): { low: number; part: number } {
  const position = Math.min(Math.max(quality - 1, 0), levels - 1);
  const low = levels > 1 ? Math.min(Math.floor(position), levels - 2) : 0;
  return { low, part: position - low };
}

function between(gains: Float32Array, levels: number, latent: number, quality: number): Float32Array {
  const { low, part } = level(levels, quality);
  const high = Math.min(low + 1, levels - 1);
  return Float32Array.from({ length: latent }, (_, channel) => {
    const [below, above] = [gains[low * latent + channel]!, gains[high * latent + channel]!];
    return Math.fround(Math.fround(below ** (1 - part)) * Math.fround(above ** part));
  });
}

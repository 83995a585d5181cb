/** Arrays of an .npz: a zip of .npy files, each stored without compression (docs/bundle.md). */

import { BundleError } from "./errors.js";

type Values = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;

export interface NpyArray {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Values;
  /** As in the file: little-endian, in C order. */
  readonly bytes: Uint8Array;
}

export type Arrays = ReadonlyMap<string, NpyArray>;

/** descr of numpy: name, and how its bytes are read. */
const KINDS: Record<string, [string, (bytes: ArrayBuffer) => Values]> = {
  "|i1": ["int8", (b) => new Int8Array(b)],
  "|u1": ["uint8", (b) => new Uint8Array(b)],
  "<i2": ["int16", (b) => new Int16Array(b)],
  "<u2": ["uint16", (b) => new Uint16Array(b)],
  "<i4": ["int32", (b) => new Int32Array(b)],
  "<u4": ["uint32", (b) => new Uint32Array(b)],
  "<i8": ["int64", (b) => Float64Array.from(new BigInt64Array(b), Number)],
  "<f4": ["float32", (b) => new Float32Array(b)],
  "<f8": ["float64", (b) => new Float64Array(b)],
};
const SIZES: Record<string, number> = { "1": 1, "2": 2, "4": 4, "8": 8 };
const MAX_ARRAYS = 4096;

/** BundleError, with the file's name, for what is no .npz of plain numbers. */
export function parseNpz(file: string, data: Uint8Array): Arrays {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const bad = (what: string): never => {
    throw new BundleError(`${file}: expected an .npz of plain arrays: ${what}`);
  };
  try {
    return readMembers(data, view, bad);
  } catch (error) {
    if (error instanceof RangeError) bad("it is cut short");
    throw error;
  }
}

function readMembers(data: Uint8Array, view: DataView, bad: (what: string) => never): Arrays {
  const end = endRecord(view, bad);
  const count = view.getUint16(end + 10, true);
  if (count > MAX_ARRAYS) bad(`at most ${MAX_ARRAYS} arrays, found ${count}`);
  const arrays = new Map<string, NpyArray>();
  let place = view.getUint32(end + 16, true);
  for (let member = 0; member < count; member++) {
    if (view.getUint32(place, true) !== 0x02014b50) bad("no member where one should be");
    const size = view.getUint32(place + 24, true);
    const lengths = [28, 30, 32].map((offset) => view.getUint16(place + offset, true));
    const name = new TextDecoder().decode(data.subarray(place + 46, place + 46 + lengths[0]!));
    if (view.getUint16(place + 10, true) !== 0) bad(`${name}: expected it uncompressed`);
    if (!name.endsWith(".npy") || arrays.has(name.slice(0, -4))) bad(`expected .npy files of different names, found ${name}`);
    const local = view.getUint32(place + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (start + size > data.length) bad("it is cut short");
    arrays.set(name.slice(0, -4), parseNpy(name, data.subarray(start, start + size), bad));
    place += 46 + lengths[0]! + lengths[1]! + lengths[2]!;
  }
  return arrays;
}

function endRecord(view: DataView, bad: (what: string) => never): number {
  for (let place = view.byteLength - 22; place >= Math.max(0, view.byteLength - 65_557); place--)
    if (view.getUint32(place, true) === 0x06054b50) return place;
  return bad("no zip archive: it has no end");
}

function parseNpy(name: string, data: Uint8Array, bad: (what: string) => never): NpyArray {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const version = data[6];
  if (view.getUint32(0) !== 0x934e554d || (version !== 1 && version !== 2)) bad(`${name}: no .npy array`);
  const headStart = version === 1 ? 10 : 12;
  const start = headStart + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const head = new TextDecoder("latin1").decode(data.subarray(headStart, start));
  const found = /^\{'descr': '([^']+)', 'fortran_order': (False|True), 'shape': \(([\d, ]*)\), *\}\s*$/.exec(head);
  const kind = found ? KINDS[found[1]!] : undefined;
  if (!found || !kind) return bad(`${name}: expected plain numbers, found ${head.slice(0, 80)}`);
  const shape = found[3]!.split(",").filter((part) => part.trim()).map(Number);
  if (found[2] === "True" && shape.length > 1) bad(`${name}: expected C order`);
  const size = shape.reduce((product, side) => product * side, 1) * SIZES[found[1]!.slice(2)]!;
  if (size !== data.length - start) bad(`${name}: expected ${size} bytes, found ${data.length - start}`);
  const bytes = data.slice(start);
  return { dtype: kind[0], shape, data: kind[1](bytes.buffer), bytes };
}

/** The `.s2c` container: taken apart and checked in the order of docs/bitstream.md, "Reading, in this order". */

import { crc32c } from "./crc32c.js";
import { StreamError } from "./errors.js";

export const VARIANTS = ["identity", "conv", "attention", "hybrid"] as const;
export const PRESETS = ["custom", "tiny", "small", "base", "large"] as const;

/** A tile: where it lies in the picture, in pixels, and what the entropy coder wrote for it. */
export interface Tile {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly payload: Uint8Array;
}

/** What a stream says.  Arrays are views of the bytes that were parsed. */
export interface Stream {
  readonly width: number;
  readonly height: number;
  readonly variant: (typeof VARIANTS)[number];
  readonly preset: (typeof PRESETS)[number];
  /** 1 to 8, a multiple of 1/32. */
  readonly quality: number;
  /** Side of a tile in pixels; 0: one tile, the picture. */
  readonly tile: number;
  /** Whether the tiles' latents are parts of one. */
  readonly seamless: boolean;
  /** 16 hexadecimal digits, of the bundle that wrote it. */
  readonly fingerprint: string;
  readonly icc: Uint8Array | null;
  readonly exif: Uint8Array | null;
  readonly tiles: readonly Tile[];
}

const MAGIC = [0xf5, 0x53, 0x32, 0x43];
const HEADER = 22;
const ENTRY = 8;
const CHECKSUM = 4;
const ICC = 1;
const EXIF = 2;
const SEAMLESS = 4;
const MAX_STEP = 224;
const MAX_METADATA = 16 * 2 ** 20;

/** A side of a picture in whole units of 64 pixels. */
export function padded(side: number): number {
  return Math.ceil(side / 64) * 64;
}

function hexadecimal(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bad(field: string, expected: string | number, found: string | number): never {
  throw new StreamError(`${field}: expected ${expected}, found ${found}`);
}

interface Header {
  readonly flags: number;
  readonly model: number;
  readonly step: number;
  readonly width: number;
  readonly height: number;
  readonly tile: number;
  readonly columns: number;
  readonly rows: number;
  /** Sections before the tiles. */
  readonly metadata: number;
  /** All sections. */
  readonly count: number;
}

function readHeader(data: Uint8Array, view: DataView): Header {
  if (MAGIC.some((byte, place) => data[place] !== byte))
    bad("magic", hexadecimal(Uint8Array.from(MAGIC)), `${hexadecimal(data.subarray(0, 4)) || "nothing"}: this is no .s2c file`);
  if (data.length > 4 && data[4] !== 1) bad("version", 1, data[4]!);
  if (data.length < HEADER) bad("header", `${HEADER} bytes`, `${data.length} bytes`);
  const flags = view.getUint8(5);
  if (flags & ~(ICC | EXIF | SEAMLESS)) bad("flags", "bits 0 to 2 only", `0x${flags.toString(16)}`);
  const width = view.getUint16(8, true);
  const height = view.getUint16(10, true);
  if (width === 0) bad("width", "1 to 65535", 0);
  if (height === 0) bad("height", "1 to 65535", 0);
  const tile = view.getUint16(12, true) * 64;
  const columns = tile ? Math.ceil(width / tile) : 1;
  const rows = tile ? Math.ceil(height / tile) : 1;
  if (flags & SEAMLESS && columns * rows < 2) bad("flags", "bit 2 with several tiles only", "one tile");
  const metadata = (flags & ICC ? 1 : 0) + (flags & EXIF ? 1 : 0);
  const model = view.getUint8(6);
  return { flags, model, step: view.getUint8(7), width, height, tile, columns, rows, metadata, count: columns * rows + metadata };
}

/** The size is what will be allocated: sides padded to multiples of 64. */
function checkValues(header: Header, maxPixels: number): void {
  const { model, step, width, height } = header;
  if (model >> 4 >= VARIANTS.length) bad("variant", `0 to ${VARIANTS.length - 1}`, model >> 4);
  if ((model & 15) >= PRESETS.length) bad("preset", `0 to ${PRESETS.length - 1}`, model & 15);
  if (step > MAX_STEP) bad("quality step", `0 to ${MAX_STEP}`, step);
  const found = `${width}x${height}, with its padding ${padded(width)}x${padded(height)}`;
  if (padded(width) * padded(height) > maxPixels) bad("dimensions", `at most ${maxPixels} pixels`, found);
}

function readSections(data: Uint8Array, view: DataView, header: Header): Uint8Array[] {
  const { count, metadata } = header;
  let place = HEADER + ENTRY * count + CHECKSUM;
  const length = (section: number) => view.getUint32(HEADER + ENTRY * section, true);
  let total = place;
  for (let section = 0; section < count; section++) {
    const size = length(section);
    if (section < metadata && !(1 <= size && size <= MAX_METADATA))
      bad(`section ${section}`, `1 to ${MAX_METADATA} bytes of metadata`, size);
    total += size;
  }
  if (total !== data.length) bad("sections", `${total} bytes in all`, `${data.length} bytes`);
  const sections: Uint8Array[] = [];
  for (let section = 0; section < count; section++) {
    const bytes = data.subarray(place, place + length(section));
    checkChecksum(`section ${section}`, bytes, view.getUint32(HEADER + ENTRY * section + 4, true));
    sections.push(bytes);
    place += bytes.length;
  }
  return sections;
}

function checkChecksum(name: string, bytes: Uint8Array, expected: number): void {
  const found = crc32c(bytes);
  if (found !== expected) bad(`${name}: checksum`, `0x${expected.toString(16)}`, `0x${found.toString(16)}`);
}

/**
 * Reads and checks a whole `.s2c` file; StreamError for every malformed one.
 *
 * maxPixels: larger pictures are refused, their padding counted.  Whether the fingerprint is the right one is for the
 * caller to say.
 */
export function parseStream(data: Uint8Array, maxPixels = 2 ** 27): Stream {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const header = readHeader(data, view);
  const tableEnd = HEADER + ENTRY * header.count;
  // Every section has a table entry: a number of them that cannot be there stops here, before anything is allocated.
  if (tableEnd + CHECKSUM > data.length)
    bad("section table", `${tableEnd + CHECKSUM} bytes or more for ${header.count} sections`, `${data.length} bytes`);
  checkChecksum("header", data.subarray(0, tableEnd), view.getUint32(tableEnd, true));
  checkValues(header, maxPixels);
  const sections = readSections(data, view, header);
  const { width, height, tile, columns } = header;
  const tiles = sections.slice(header.metadata).map((payload, number): Tile => {
    const left = (number % columns) * tile;
    const top = Math.floor(number / columns) * tile;
    const side = tile || Infinity;
    return { left, top, width: Math.min(side, width - left), height: Math.min(side, height - top), payload };
  });
  return {
    width,
    height,
    variant: VARIANTS[header.model >> 4]!,
    preset: PRESETS[header.model & 15]!,
    quality: 1 + header.step / 32,
    tile,
    seamless: (header.flags & SEAMLESS) !== 0,
    fingerprint: hexadecimal(data.subarray(14, 22)),
    icc: header.flags & ICC ? sections[0]! : null,
    exif: header.flags & EXIF ? sections[header.metadata - 1]! : null,
    tiles,
  };
}

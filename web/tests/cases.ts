/** What Python made for these tests: tests/deployment/test_web.py writes a folder and names it in CASES. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe } from "vitest";

export const FOLDER = process.env.CASES ?? "";

export interface Cases {
  /** Folders of the bundle and of its web bundle. */
  readonly bundles: Record<string, string>;
  readonly pictures: {
    stream: string;
    /** The SHA-256 of every tile's y_hat, as float32. */
    latents: string[];
    /** RGB, height x width x 3. */
    pixels: string;
    width: number;
    height: number;
  }[];
  /** Streams that must not decode, and a part of what is said of them. */
  readonly refused: Record<string, string>;
  /** Streams in hexadecimal digits, and their fields where Python takes them. */
  readonly parsed: { hex: string; fields: Record<string, unknown> | null }[];
  readonly payloads: {
    tables: string;
    payload: string;
    /** Hexadecimal digits of each batch's indexes (uint8) and symbols (int16). */
    batches: { indexes: string; symbols: string }[];
  }[];
}

/** Tests that need what Python made. */
export const describeWithPython = describe.skipIf(!FOLDER);

export function cases(): Cases {
  return JSON.parse(readFileSync(join(FOLDER, "cases.json"), "utf8")) as Cases;
}

export function file(name: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(join(FOLDER, name)));
}

export function fromHex(digits: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(digits.replace(/\s/g, ""), "hex"));
}

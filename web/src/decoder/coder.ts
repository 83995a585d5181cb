/** The entropy coder: native/ compiled to WebAssembly, by the functions of s2c.h. */

import module from "./coder_module.js";
import { BundleError, EngineError, StreamError } from "./errors.js";

/** A set of frequency tables, as tables.npz holds it (docs/entropy.md, "Tables"). */
export interface FrequencyTables {
  readonly sizes: Uint16Array;
  readonly freqs: Uint16Array;
  readonly centers: Int32Array;
  readonly shifts: Uint8Array;
  readonly skipBelow: number;
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  _initialize(): void;
  malloc(size: number): number;
  free(pointer: number): void;
  s2c_version(): number;
  s2c_strerror(status: number): number;
  s2c_crc32c(data: number, size: number, value: number): number;
  s2c_tables_create(count: number, sizes: number, freqs: number, centers: number, shifts: number, skip: number, out: number): number;
  s2c_tables_free(tables: number): void;
  s2c_decoder_create(tables: number, data: number, size: number, out: number): number;
  s2c_decoder_read(decoder: number, indexes: number, count: number, symbols: number): number;
  s2c_decoder_finish(decoder: number): number;
  s2c_decoder_free(decoder: number): void;
}

const VERSION = 2;
const OK = 0;
const ERR_MEMORY = 2;

export class Coder {
  readonly #wasm: Exports;
  #tables = 0;

  private constructor(wasm: Exports) {
    this.#wasm = wasm;
  }

  /** BundleError for tables that the coder refuses. */
  static async open(tables: FrequencyTables): Promise<Coder> {
    const coder = new Coder(await instantiate());
    coder.#openTables(tables);
    return coder;
  }

  #openTables(tables: FrequencyTables): void {
    const wasm = this.#wasm;
    const arrays = [tables.sizes, tables.freqs, tables.centers, tables.shifts].map((array) => this.#put(array));
    const out = this.#allocate(4);
    const [sizes, freqs, centers, shifts] = arrays as [number, number, number, number];
    const status = wasm.s2c_tables_create(tables.sizes.length, sizes, freqs, centers, shifts, tables.skipBelow, out);
    this.#tables = new DataView(wasm.memory.buffer).getUint32(out, true);
    for (const pointer of [...arrays, out]) wasm.free(pointer);
    if (status !== OK) throw new BundleError(`tables: ${this.#message(status)}`);
  }

  /** A decoder of one payload; StreamError for one whose head is malformed. */
  decoder(payload: Uint8Array): SymbolReader {
    const wasm = this.#wasm;
    const data = this.#put(payload);
    const out = this.#allocate(4);
    const status = wasm.s2c_decoder_create(this.#tables, data, payload.length, out);
    const decoder = new DataView(wasm.memory.buffer).getUint32(out, true);
    wasm.free(out);
    if (status !== OK) wasm.free(data);
    this.#check(status);
    return {
      read: (indexes) => this.#read(decoder, indexes),
      finish: () => this.#check(wasm.s2c_decoder_finish(decoder)),
      free: () => {
        wasm.s2c_decoder_free(decoder);
        wasm.free(data);
      },
    };
  }

  /** The coder's own CRC-32C, continuing from a value. */
  crc32c(data: Uint8Array, value = 0): number {
    const pointer = this.#put(data);
    const found = this.#wasm.s2c_crc32c(pointer, data.length, value) >>> 0;
    this.#wasm.free(pointer);
    return found;
  }

  close(): void {
    this.#wasm.s2c_tables_free(this.#tables);
    this.#tables = 0;
  }

  #read(decoder: number, indexes: Uint8Array): Int16Array {
    const wasm = this.#wasm;
    const given = this.#put(indexes);
    const out = this.#allocate(2 * indexes.length);
    const status = wasm.s2c_decoder_read(decoder, given, indexes.length, out);
    const symbols = new Int16Array(wasm.memory.buffer, out, indexes.length).slice();
    wasm.free(given);
    wasm.free(out);
    this.#check(status);
    return symbols;
  }

  #check(status: number): void {
    if (status === OK) return;
    throw new (status === ERR_MEMORY ? EngineError : StreamError)(`entropy coder: ${this.#message(status)}`);
  }

  #message(status: number): string {
    const bytes = new Uint8Array(this.#wasm.memory.buffer);
    const start = this.#wasm.s2c_strerror(status);
    return new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start)));
  }

  /** At least one byte, so that no pointer is null. */
  #allocate(size: number): number {
    const pointer = this.#wasm.malloc(Math.max(1, size));
    if (pointer === 0) throw new EngineError(`entropy coder: out of memory, ${size} bytes`);
    return pointer;
  }

  #put(array: Uint8Array | Uint16Array | Int32Array): number {
    const pointer = this.#allocate(array.byteLength);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(this.#wasm.memory.buffer).set(bytes, pointer);
    return pointer;
  }
}

/** Symbols of one payload, batch by batch; none is to be trusted before `finish`. */
export interface SymbolReader {
  read(indexes: Uint8Array): Int16Array;
  finish(): void;
  free(): void;
}

async function instantiate(): Promise<Exports> {
  const bytes = Uint8Array.from(atob(module), (character) => character.charCodeAt(0));
  let memory: WebAssembly.Memory | undefined;
  // All that the coder asks of a system: there is no environment, no other thread, and nowhere to exit to.
  const system = {
    environ_get: () => 0,
    environ_sizes_get: (count: number, size: number) => {
      const view = new DataView(memory!.buffer);
      view.setUint32(count, 0, true);
      view.setUint32(size, 0, true);
      return 0;
    },
    sched_yield: () => 0,
    proc_exit: (code: number) => {
      throw new EngineError(`the entropy coder stopped with ${code}`);
    },
  };
  const { instance } = await WebAssembly.instantiate(bytes, { wasi_snapshot_preview1: system });
  const wasm = instance.exports as unknown as Exports;
  memory = wasm.memory;
  wasm._initialize();
  const version = Math.floor(wasm.s2c_version() / 1000);
  if (version !== VERSION) throw new EngineError(`entropy coder: expected version ${VERSION}, found ${version}`);
  return wasm;
}

/** A bundle that is open, and decodes. */

import { checkAnswers } from "./answers.js";
import { Coder } from "./coder.js";
import { BundleError, StreamError } from "./errors.js";
import { filesOf, type ReadFile, sha256 } from "./files.js";
import { streamFingerprints } from "./fingerprints.js";
import { type EngineOptions, Graph, setUpEngine, type Tensor } from "./graphs.js";
import { decodingGraphs, KNOWN_ANSWERS, type Manifest, parseManifest, TABLES } from "./manifest.js";
import { parseNpz } from "./npz.js";
import { padded, parseStream, type Stream } from "./stream.js";
import { type Canvas, draw, place } from "./synthesis.js";
import { readTables, type Tables } from "./tables.js";
import { Walk } from "./walk.js";

export interface OpenOptions extends EngineOptions {
  /** Which g_s of the bundle draws: `full`, or the name of a lighter one; by default the full one where it is there. */
  readonly synthesis?: string;
  /** Instead of fetching from the bundle's URL. */
  readonly readFile?: ReadFile;
  /** Called when a file of the bundle was read, with the bytes read so far and those of all that will be. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface DecodeOptions {
  /** Larger pictures, padding to multiples of 64 counted, are refused.  By default 2^24. */
  readonly maxPixels?: number;
  /**
   * Larger pictures are drawn in blocks of so many pixels, where the bundle says how far its g_s looks.  By default
   * 2^19: some 330 MB of memory with S2C-Conv `small`.
   */
  readonly blockPixels?: number;
  /** Called once, when the picture is ready. */
  readonly onTimes?: (times: Times) => void;
}

/** Milliseconds of one decoding. */
export interface Times {
  readonly parse: number;
  /** The entropy coder. */
  readonly symbols: number;
  /** h_s and the contexts. */
  readonly networks: number;
  /** g_s and rounding. */
  readonly synthesis: number;
  readonly total: number;
}

/** In browsers an ImageData, in Node an object of the same form: RGBA, 8 bits each. */
export type Picture = Canvas | ImageData;

const MAX_PIXELS = 2 ** 24;
const BLOCK_PIXELS = 2 ** 19;

export class S2C {
  readonly name: string;
  readonly #manifest: Manifest;
  readonly #reads: readonly string[];
  readonly #tables: Tables;
  readonly #coder: Coder;
  readonly #graphs = new Map<string, Graph>();
  readonly #synthesis: string;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(manifest: Manifest, reads: readonly string[], tables: Tables, coder: Coder, synthesis: string) {
    this.name = manifest.name;
    this.#manifest = manifest;
    this.#reads = reads;
    this.#tables = tables;
    this.#coder = coder;
    this.#synthesis = synthesis;
  }

  /**
   * Opens a bundle, or a web bundle, at a URL; in Node also in a folder.
   *
   * Every file is read once, hashed, and used as it was hashed; every graph has to give its known answers before it is
   * used.  BundleError and EngineError, with nothing left open.
   */
  static async open(bundle: string | URL, options: OpenOptions = {}): Promise<S2C> {
    setUpEngine(options);
    const readFile = options.readFile ?? filesOf(bundle);
    const manifest = parseManifest(await readFile("manifest.json"));
    const names = decodingGraphs(manifest, options.synthesis);
    const reads = await streamFingerprints(manifest);
    const take = listedFiles(manifest, readFile, [TABLES, KNOWN_ANSWERS, ...names.map((name) => `${name}.onnx`)], options);
    const tables = await readTables(await take(TABLES), manifest);
    const codec = new S2C(manifest, reads, tables, await Coder.open(tables.frequencies), names.at(-1)!);
    try {
      const answers = parseNpz(KNOWN_ANSWERS, await take(KNOWN_ANSWERS));
      for (const name of names) {
        const graph = await Graph.open(name, await take(`${name}.onnx`));
        codec.#graphs.set(name, graph);
        await checkAnswers(graph, manifest.graphs[name]!, answers);
      }
      return codec;
    } catch (error) {
      await codec.close();
      throw error;
    }
  }

  /** What a stream says, without decoding it; StreamError for every malformed one. */
  static parse(bytes: Uint8Array, maxPixels?: number): Stream {
    return parseStream(bytes, maxPixels);
  }

  /** The picture of a stream, or an error: StreamError for a malformed stream or one of another bundle. */
  async decode(bytes: Uint8Array | ArrayBuffer, options: DecodeOptions = {}): Promise<Picture> {
    const canvas = await this.#inTurn(() => this.#decode(asBytes(bytes), options));
    return typeof ImageData === "undefined" ? canvas : new ImageData(canvas.data, canvas.width, canvas.height);
  }

  /** y_hat of every tile, in 1/16 steps: what must be the same on every machine. */
  async decodeLatents(bytes: Uint8Array | ArrayBuffer, maxPixels = MAX_PIXELS): Promise<Tensor[]> {
    return this.#inTurn(async () => {
      const stream = this.#parse(asBytes(bytes), maxPixels);
      const walk = this.#walk(stream);
      const latents = [];
      for (const tile of stream.tiles) latents.push(await walk.latent(tile));
      return latents;
    });
  }

  /** Frees the engine's memory; nothing can be decoded afterwards. */
  async close(): Promise<void> {
    await this.#inTurn(async () => {
      for (const graph of this.#graphs.values()) await graph.close();
      this.#graphs.clear();
      this.#coder.close();
    });
  }

  /** The engine has one memory: one decoding at a time. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  #parse(bytes: Uint8Array, maxPixels: number): Stream {
    if (this.#graphs.size === 0) throw new BundleError("the bundle has been closed");
    const stream = parseStream(bytes, maxPixels);
    if (!this.#reads.includes(stream.fingerprint))
      throw new StreamError(`fingerprint: expected ${this.#reads[0]} (${this.name}), found ${stream.fingerprint}: it is of another bundle`);
    return stream;
  }

  #walk(stream: Stream): Walk {
    const parts = { coder: this.#coder, tables: this.#tables, latent: this.#manifest.latent, graphs: this.#graphs };
    return new Walk(parts, stream.quality);
  }

  async #decode(bytes: Uint8Array, options: DecodeOptions): Promise<Canvas> {
    const start = performance.now();
    const stream = this.#parse(bytes, options.maxPixels ?? MAX_PIXELS);
    const parse = performance.now() - start;
    const walk = this.#walk(stream);
    const { width, height } = stream;
    const canvas = { data: new Uint8ClampedArray(width * height * 4), width, height };
    const inverseGain = { shape: [1, this.#manifest.latent, 1, 1], data: this.#tables.inverseGain(stream.quality) };
    const graph = this.#graphs.get(this.#synthesis)!;
    const { field } = this.#manifest.graphs[this.#synthesis]!;
    const synthesis = { graph, field, inverseGain, blockPixels: options.blockPixels ?? BLOCK_PIXELS };
    let drawing = 0;
    const drawn = async (y_hat: Tensor, at: { left: number; top: number; width: number; height: number }) => {
      const begun = performance.now();
      await draw(synthesis, y_hat, canvas, at);
      drawing += performance.now() - begun;
    };
    if (stream.seamless) await drawn(await this.#wholeLatent(stream, walk), { left: 0, top: 0, width, height });
    else for (const tile of stream.tiles) await drawn(await walk.latent(tile), tile);
    options.onTimes?.({ parse, ...walk.times, synthesis: drawing, total: performance.now() - start });
    return canvas;
  }

  async #wholeLatent(stream: Stream, walk: Walk): Promise<Tensor> {
    const [height, width] = [padded(stream.height) / 16, padded(stream.width) / 16];
    const channels = this.#manifest.latent;
    const whole = { shape: [1, channels, height, width], data: new Float32Array(channels * height * width) };
    for (const tile of stream.tiles) place(await walk.latent(tile), tile.left / 16, tile.top / 16, whole);
    return whole;
  }
}

function asBytes(bytes: Uint8Array | ArrayBuffer): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes;
  if (bytes instanceof ArrayBuffer) return new Uint8Array(bytes);
  throw new StreamError(`stream: expected its bytes, found ${typeof bytes}`);
}

/** Reads files of the bundle that the manifest lists, of the size and SHA-256 that it says. */
function listedFiles(manifest: Manifest, readFile: ReadFile, wanted: readonly string[], options: OpenOptions): ReadFile {
  const size = (name: string) => {
    const entry = Object.hasOwn(manifest.files, name) ? manifest.files[name] : undefined;
    if (!entry) throw new BundleError(`manifest.json: files: expected ${name}, found none`);
    return entry.size;
  };
  const total = wanted.reduce((sum, name) => sum + size(name), 0);
  let done = 0;
  return async (name) => {
    const [expected, data] = [manifest.files[name]!, await readFile(name)];
    if (data.length !== expected.size) throw new BundleError(`${name}: expected ${expected.size} bytes, found ${data.length}`);
    const hash = await sha256(data);
    if (hash !== expected.sha256) throw new BundleError(`${name}: expected SHA-256 ${expected.sha256}, found ${hash}`);
    done += data.length;
    options.onProgress?.(done, total);
    return data;
  };
}

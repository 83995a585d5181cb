/** A tile's symbols and networks, in turns: docs/bundle.md, "A tile, from bytes to pixels". */

import type { Coder, SymbolReader } from "./coder.js";
import { StreamError } from "./errors.js";
import type { Graph, Tensor, Tensors } from "./graphs.js";
import { groups } from "./manifest.js";
import { padded, type Tile } from "./stream.js";
import type { Tables } from "./tables.js";

/** h_s is proven exact for hyper-latent symbols of this magnitude. */
const MOST_HYPER = 127;

/** Milliseconds spent in the entropy coder and in graphs. */
export interface WalkTimes {
  symbols: number;
  networks: number;
}

export interface WalkParts {
  readonly coder: Coder;
  readonly tables: Tables;
  readonly latent: number;
  readonly graphs: ReadonlyMap<string, Graph>;
}

export class Walk {
  readonly times: WalkTimes = { symbols: 0, networks: 0 };
  readonly #parts: WalkParts;
  readonly #quality: number;

  constructor(parts: WalkParts, quality: number) {
    this.#parts = parts;
    this.#quality = quality;
  }

  /** y_hat of a tile, in 1/16 steps: 1 x M x h x w.  StreamError for a payload that the coder refuses. */
  async latent(tile: Tile): Promise<Tensor> {
    const [rows, columns] = [padded(tile.height) / 64, padded(tile.width) / 64];
    const { coder, latent } = this.#parts;
    const reader = coder.decoder(tile.payload);
    try {
      const { hyper } = await this.#run("h_s", { z_hat: this.#readHyper(reader, rows, columns) });
      const shape = [1, latent, 4 * rows, 4 * columns];
      const y_hat = { shape, data: new Float32Array(latent * 16 * rows * columns) };
      let start = 0;
      for (const [k, channels] of groups(latent).entries()) {
        await this.#decodeGroup(reader, k, start, channels, hyper!, y_hat);
        start += channels;
      }
      reader.finish(); // until then no symbol is to be trusted
      return y_hat;
    } finally {
      reader.free();
    }
  }

  async #run(graph: string, inputs: Tensors): Promise<Tensors> {
    const start = performance.now();
    const outputs = await this.#parts.graphs.get(graph)!.run(inputs);
    this.times.networks += performance.now() - start;
    return outputs;
  }

  #read(reader: SymbolReader, indexes: Uint8Array): Int16Array {
    const start = performance.now();
    const symbols = reader.read(indexes);
    this.times.symbols += performance.now() - start;
    return symbols;
  }

  #readHyper(reader: SymbolReader, rows: number, columns: number): Tensor {
    const ofChannel = this.#parts.tables.hyperIndexes(this.#quality);
    const plane = rows * columns;
    const indexes = new Uint8Array(ofChannel.length * plane);
    ofChannel.forEach((index, channel) => indexes.fill(index, channel * plane, (channel + 1) * plane));
    const symbols = this.#read(reader, indexes);
    const outside = symbols.find((symbol) => Math.abs(symbol) > MOST_HYPER);
    if (outside !== undefined)
      throw new StreamError(`hyper-latent: expected symbols within ±${MOST_HYPER}, found ${outside}`);
    return { shape: [1, ofChannel.length, rows, columns], data: Float32Array.from(symbols) };
  }

  async #decodeGroup(reader: SymbolReader, k: number, start: number, channels: number, hyper: Tensor, y_hat: Tensor) {
    const earlier: Tensors = start > 0 ? { y_prev: part(y_hat, 0, start) } : {};
    const anchor = await this.#run(`context_${k}_anchor`, { hyper, ...earlier });
    this.#decodePass(reader, anchor, 0, start, y_hat);
    const y_cur = part(y_hat, start, start + channels);
    const nonanchor = await this.#run(`context_${k}_nonanchor`, { features: anchor.features!, y_cur });
    this.#decodePass(reader, nonanchor, 1, start, y_hat);
  }

  /** Reads the symbols of one parity and writes 16 s + m where they belong (docs/bundle.md, "Packing"). */
  #decodePass(reader: SymbolReader, outputs: Tensors, parity: number, start: number, y_hat: Tensor): void {
    const [indexes, means] = [outputs.indexes!, outputs.means!.data];
    const symbols = this.#read(reader, Uint8Array.from(indexes.data));
    const [, channels, height, half] = indexes.shape as [number, number, number, number];
    let i = 0;
    for (let channel = 0; channel < channels; channel++)
      for (let v = 0; v < height; v++) {
        const odd = v >= height / 2; // even rows of the latent lie above odd rows
        const row = odd ? 2 * v - height + 1 : 2 * v;
        const first = ((start + channel) * height + row) * 2 * half + (odd !== (parity === 1) ? 1 : 0);
        for (let u = 0; u < half; u++, i++) y_hat.data[first + 2 * u] = 16 * symbols[i]! + means[i]!;
      }
  }
}

/** Some channels, without a copy. */
function part(tensor: Tensor, start: number, stop: number): Tensor {
  const [, , height, width] = tensor.shape as [number, number, number, number];
  const plane = height * width;
  return { shape: [1, stop - start, height, width], data: tensor.data.subarray(start * plane, stop * plane) };
}

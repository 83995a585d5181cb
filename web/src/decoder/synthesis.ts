/** Latents to pixels: g_s, in blocks where its bundle says how far it looks. */

import { EngineError } from "./errors.js";
import type { Graph, Tensor } from "./graphs.js";
import type { Field } from "./manifest.js";


/** Positions of a latent. */
interface Area {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** RGBA, 8 bits each. */
export interface Canvas {
  readonly data: Uint8ClampedArray<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

export interface Synthesis {
  readonly graph: Graph;
  readonly field: Field | null;
  /** 1 x M x 1 x 1, of the stream's quality. */
  readonly inverseGain: Tensor;
  /** Pixels that g_s is run over at once, what is around a block not counted. */
  readonly blockPixels: number;
}

/** Draws a latent with its upper left corner at a place of the picture; what is padding is cut off. */
export async function draw(synthesis: Synthesis, y_hat: Tensor, canvas: Canvas, place: { left: number; top: number; width: number; height: number }) {
  const [, , height, width] = y_hat.shape as [number, number, number, number];
  for (const block of blocks(height, width, synthesis)) {
    const seen = synthesis.field ? around(block, synthesis.field, height, width) : block;
    const inputs = { y_hat: crop(y_hat, seen), inverse_gain: synthesis.inverseGain };
    const { x_hat } = await synthesis.graph.run(inputs);
    const corner = { top: 16 * (block.top - seen.top), left: 16 * (block.left - seen.left) };
    const target = {
      top: place.top + 16 * block.top,
      left: place.left + 16 * block.left,
      bottom: Math.min(place.top + 16 * block.bottom, place.top + place.height),
      right: Math.min(place.left + 16 * block.right, place.left + place.width),
    };
    round(x_hat!, corner, canvas, target);
  }
}

/** All of it where it is small enough, or nobody knows how far g_s looks; else squares, about. */
function* blocks(height: number, width: number, { field, blockPixels }: Synthesis): Generator<Area> {
  const whole = field === null || 256 * height * width <= blockPixels;
  const most = 4 * Math.max(1, Math.floor(Math.sqrt(blockPixels) / 64));
  const [rows, columns] = [height, width].map((side) => (whole ? [0, side] : cuts(side, most)));
  for (let i = 0; i + 1 < rows!.length; i++)
    for (let j = 0; j + 1 < columns!.length; j++)
      yield { top: rows![i]!, bottom: rows![i + 1]!, left: columns![j]!, right: columns![j + 1]! };
}

/** In pieces of about the same length, multiples of 4 positions, which a picture is padded to. */
function cuts(side: number, most: number): number[] {
  const count = Math.ceil(side / most);
  return Array.from({ length: count + 1 }, (_, k) => Math.floor(((side / 4) * k) / count) * 4);
}

function around(block: Area, field: Field, height: number, width: number): Area {
  const down = (position: number) => Math.floor(Math.max(0, position - field.before) / field.unit) * field.unit;
  const up = (position: number, end: number) => Math.min(end, Math.ceil((position + field.after) / field.unit) * field.unit);
  return { top: down(block.top), left: down(block.left), bottom: up(block.bottom, height), right: up(block.right, width) };
}

function crop(tensor: Tensor, area: Area): Tensor {
  const [, channels, height, width] = tensor.shape as [number, number, number, number];
  const [rows, columns] = [area.bottom - area.top, area.right - area.left];
  if (rows === height && columns === width) return tensor;
  const data = new Float32Array(channels * rows * columns);
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < rows; row++) {
      const start = (channel * height + area.top + row) * width + area.left;
      data.set(tensor.data.subarray(start, start + columns), (channel * rows + row) * columns);
    }
  return { shape: [1, channels, rows, columns], data };
}

/** 255 x_hat, rounded (halves to even) and clipped, which is how a Uint8ClampedArray takes numbers. */
function round(x_hat: Tensor, corner: { top: number; left: number }, canvas: Canvas, target: Area): void {
  const [, , height, width] = x_hat.shape as [number, number, number, number];
  for (let channel = 0; channel < 3; channel++)
    for (let row = target.top; row < target.bottom; row++) {
      let from = (channel * height + corner.top + row - target.top) * width + corner.left;
      let to = (row * canvas.width + target.left) * 4 + channel;
      for (let column = target.left; column < target.right; column++, from++, to += 4) {
        const level = Math.fround(x_hat.data[from]! * 255);
        if (Number.isNaN(level)) throw new EngineError("g_s gave values that are no numbers");
        canvas.data[to] = level;
        if (channel === 0) canvas.data[to + 3] = 255;
      }
    }
}

/** Writes a tile's latent where it lies in the whole one. */
export function place(part: Tensor, left: number, top: number, whole: Tensor): void {
  const [, channels, rows, columns] = part.shape as [number, number, number, number];
  const [, , height, width] = whole.shape as [number, number, number, number];
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < rows; row++) {
      const start = (channel * rows + row) * columns;
      whole.data.set(part.data.subarray(start, start + columns), (channel * height + top + row) * width + left);
    }
}

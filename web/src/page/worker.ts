/** Decodes beside the page, which stays responsive. */

import mjs from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { S2C, type Times } from "../decoder/index.js";
import type { Answer, Request } from "./messages.js";

const MOST_THREADS = 4;

function say(answer: Answer, transfer: Transferable[] = []): void {
  self.postMessage(answer, { transfer });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function open(bundle: string): Promise<S2C> {
  const start = performance.now();
  const codec = await S2C.open(bundle, {
    wasm: new URL(wasm, import.meta.url).href,
    mjs: new URL(mjs, import.meta.url).href,
    threads: self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1,
    onProgress: (bytes, total) => say({ kind: "progress", bytes, total }),
  });
  say({ kind: "open", name: codec.name, milliseconds: performance.now() - start });
  return codec;
}

async function decode(codec: S2C, id: number, bytes: Uint8Array): Promise<void> {
  try {
    let times: Times | undefined;
    const { data, width, height } = await codec.decode(bytes, { onTimes: (found) => (times = found) });
    const { quality } = S2C.parse(bytes);
    const pixels = data.buffer as ArrayBuffer;
    say({ kind: "picture", id, data: pixels, width, height, quality, times: times! }, [pixels]);
  } catch (error) {
    say({ kind: "error", id, message: messageOf(error) });
  }
}

let opened: Promise<S2C> | undefined;

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  if (data.kind === "open") {
    opened = open(data.bundle);
    opened.catch((error: unknown) => say({ kind: "failed", message: messageOf(error) }));
  } else {
    // Where the bundle could not be opened, the page has been told.
    opened?.then((codec) => decode(codec, data.id, new Uint8Array(data.bytes))).catch(() => undefined);
  }
});

/** Graphs on ONNX Runtime Web, with its WebAssembly kernels. */

import * as ort from "onnxruntime-web/wasm";
import { EngineError } from "./errors.js";
import { nodeModule } from "./files.js";

/** float32, batch x channels x height x width, in C order. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type Tensors = Readonly<Record<string, Tensor>>;

/** Where the engine's own files are, and how it runs. */
export interface EngineOptions {
  /** URLs of onnxruntime-web's `ort-wasm-simd-threaded.wasm` and `.mjs`; by default those of the installed package. */
  readonly wasm?: string;
  readonly mjs?: string;
  /** More than one needs a page that is cross-origin isolated; Node has one. */
  readonly threads?: number;
}

/** The engine of a page or process is set up once: later options have no effect on it. */
export function setUpEngine(options: EngineOptions): void {
  const { wasm } = ort.env;
  wasm.numThreads = nodeModule("node:fs") ? 1 : (options.threads ?? 1);
  wasm.proxy = false;
  ort.env.logLevel = "error";
  if (options.wasm) wasm.wasmPaths = options.mjs ? { wasm: options.wasm, mjs: options.mjs } : { wasm: options.wasm };
  else wasm.wasmBinary ??= installed();
}

/** In Node, the package's own file, which the library would try to fetch; in browsers a bundler finds it. */
function installed(): ArrayBuffer | undefined {
  const module = nodeModule("node:module");
  if (!module) return undefined;
  const path = module.createRequire(import.meta.url).resolve("onnxruntime-web/ort-wasm-simd-threaded.wasm");
  return Uint8Array.from(nodeModule("node:fs").readFileSync(path)).buffer;
}

export class Graph {
  readonly name: string;
  readonly #session: ort.InferenceSession;

  private constructor(name: string, session: ort.InferenceSession) {
    this.name = name;
    this.#session = session;
  }

  /** A graph from bytes that were hashed; EngineError where the engine does not take them. */
  static async open(name: string, bytes: Uint8Array): Promise<Graph> {
    try {
      return new Graph(name, await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }));
    } catch (error) {
      throw new EngineError(`${name}: ONNX Runtime Web cannot load it: ${(error as Error).message ?? error}`);
    }
  }

  async run(inputs: Tensors): Promise<Tensors> {
    try {
      const given = Object.entries(inputs).map(([name, { data, shape }]) => [name, new ort.Tensor("float32", data, shape)]);
      const found = await this.#session.run(Object.fromEntries(given));
      return Object.fromEntries(
        Object.entries(found).map(([name, tensor]) => [name, { shape: tensor.dims, data: tensor.data as Float32Array }]),
      );
    } catch (error) {
      const shapes = Object.entries(inputs).map(([name, { shape }]) => `${name} ${shape.join("x")}`);
      throw new EngineError(`${this.name}: cannot run on ${shapes.join(", ")}: ${(error as Error).message ?? error}`);
    }
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}

export { type DecodeOptions, type OpenOptions, type Picture, S2C, type Times } from "./codec.js";
export { BundleError, EngineError, S2CError, StreamError } from "./errors.js";
export type { Tensor } from "./graphs.js";
export { parseStream, type Stream, type Tile } from "./stream.js";

/** Something that cannot be decoded, or decoded with: the message says what was expected and what was found. */
export class S2CError extends Error {
  override name = "S2CError";
}

/** A `.s2c` stream that docs/bitstream.md rejects, or one of another bundle. */
export class StreamError extends S2CError {
  override name = "StreamError";
}

/** A bundle that is not there, damaged, or of a form that this reader does not know. */
export class BundleError extends S2CError {
  override name = "BundleError";
}

/** The engine cannot run a graph, or computes something else than the bundle's known answers. */
export class EngineError extends S2CError {
  override name = "EngineError";
}

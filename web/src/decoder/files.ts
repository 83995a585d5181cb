/** Files of a bundle: from a server, or in Node from a folder. */

import { BundleError, EngineError } from "./errors.js";

/** Reads a file of a bundle by its name. */
export type ReadFile = (name: string) => Promise<Uint8Array<ArrayBuffer>>;

/** Node's own modules, without an import that a bundler would follow. */
export function nodeModule(name: string): any {
  const process = (globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } }).process;
  return process?.getBuiltinModule?.(name);
}

/** Of a folder's URL, or in Node of its path. */
export function filesOf(bundle: string | URL): ReadFile {
  const fs = nodeModule("node:fs/promises");
  const text = String(bundle);
  if (fs && !/^https?:/.test(text)) {
    const url = nodeModule("node:url");
    const path = nodeModule("node:path");
    const folder = text.startsWith("file:") ? url.fileURLToPath(text) : text;
    return async (name) => {
      try {
        return Uint8Array.from(await fs.readFile(path.join(folder, name)));
      } catch (error) {
        throw new BundleError(`${name}: cannot be read: ${(error as Error).message}`);
      }
    };
  }
  const base = new URL(text.endsWith("/") ? text : `${text}/`, globalThis.location?.href);
  return async (name) => {
    const url = new URL(name, base);
    const answer = await fetch(url).catch((error: Error) => {
      throw new BundleError(`${url}: cannot be fetched: ${error.message}`);
    });
    if (!answer.ok) throw new BundleError(`${url}: expected the file, found status ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  };
}

/** 64 hexadecimal digits. */
export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  if (!globalThis.crypto?.subtle)
    throw new EngineError("WebCrypto is not there: a page must come from https or from localhost");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

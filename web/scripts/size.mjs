// Bytes of every file of a folder: as they are, and as a server sends them with gzip and with brotli.
//   npm run size -- dist/site
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const folder = process.argv[2] ?? "dist/site";
const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY, [constants.BROTLI_PARAM_LGWIN]: 24 };
const names = readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
  .sort();
const total = { bytes: 0, gzip: 0, brotli: 0 };
for (const name of names) {
  const data = readFileSync(name);
  const sizes = { bytes: data.length, gzip: gzipSync(data, { level: 9 }).length, brotli: brotliCompressSync(data, { params }).length };
  for (const kind of Object.keys(total)) total[kind] += sizes[kind];
  console.log(name, ...Object.values(sizes));
}
console.log("all", ...Object.values(total));

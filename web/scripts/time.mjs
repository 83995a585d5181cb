// Milliseconds in a headless Chromium: opening a bundle, the first decode of a picture, and the median of the next ones.
//   npm run time -- BUNDLE PICTURE.s2c [--threads 1,2] [--repeats 7] [--chromium /usr/bin/chromium]
// After `make web`.  The page is cross-origin isolated, as threads want it.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { basename, dirname, extname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1,2" },
    repeats: { type: "string", default: "7" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});
if (positionals.length !== 2) throw new Error("expected a bundle and a stream: npm run time -- BUNDLE PICTURE.s2c");
const [bundle, stream] = positionals.map((path) => resolve(path));
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folders = {
  decoder: join(root, "dist/decoder"),
  ort: join(root, "node_modules/onnxruntime-web/dist"),
  bundle,
  stream: dirname(stream),
};
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const PAGE = `<!doctype html><meta charset="utf-8"><title>time</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"onnxruntime-web/wasm": "./ort/ort.wasm.min.mjs"}}</script>`;

const server = createServer((request, response) => {
  const [, folder, ...rest] = new URL(request.url, "http://localhost").pathname.split("/");
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  try {
    const file = folder ? join(folders[folder], ...rest) : null;
    if (file && !file.startsWith(folders[folder] + sep)) throw new Error("outside");
    response.setHeader("Content-Type", file ? (TYPES[extname(file)] ?? "application/octet-stream") : "text/html");
    response.end(file ? readFileSync(file) : PAGE);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const url = `http://localhost:${server.address().port}/`;

const browser = await chromium.launch({
  executablePath: values.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});
try {
  console.log(`Chromium ${browser.version()}, ${basename(stream)}`);
  console.log("| threads | open ms | first decode ms | next decodes ms | slowest stages of the last, ms |\n|---:|---:|---:|---:|---|");
  for (const threads of values.threads.split(",").map(Number)) {
    const page = await browser.newPage();
    await page.goto(url);
    const found = await page.evaluate(measured, { threads, repeats: Number(values.repeats), name: basename(stream) });
    const stages = found.stages.map(([stage, ms]) => `${stage} ${ms.toFixed(0)}`).join(", ");
    console.log(`| ${[threads, ...[found.open, found.first, found.next].map((ms) => ms.toFixed(0)), stages].join(" | ")} |`);
    await page.close();
  }
} finally {
  await browser.close();
  server.close();
}

/** In the page. */
async function measured({ threads, repeats, name }) {
  if (!crossOriginIsolated) throw new Error("the page is not cross-origin isolated");
  const { S2C } = await import(new URL("decoder/index.js", location.href).href);
  const timed = async (call) => {
    const start = performance.now();
    const result = await call();
    return [performance.now() - start, result];
  };
  const bytes = await (await fetch(new URL(`stream/${name}`, location.href))).arrayBuffer();
  const [open, codec] = await timed(() => S2C.open(new URL("bundle/", location.href), { threads }));
  const [first] = await timed(() => codec.decode(bytes));
  const next = [];
  let stages = [];
  for (let i = 0; i < repeats; i++) {
    const onTimes = ({ total, ...times }) => (stages = Object.entries(times).sort((a, b) => b[1] - a[1]).slice(0, 3));
    next.push((await timed(() => codec.decode(bytes, { onTimes })))[0]);
  }
  await codec.close();
  return { open, first, next: next.sort((a, b) => a - b)[Math.floor(next.length / 2)], stages };
}

/** The page: takes a stream, hands it to the worker, shows what comes back. */

import type { Answer, Request } from "./messages.js";

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const drop = element<HTMLLabelElement>("drop");
const file = element<HTMLInputElement>("file");
const samples = element<HTMLDivElement>("samples");
const slider = element<HTMLLabelElement>("slider");
const quality = element<HTMLInputElement>("quality");
const level = element<HTMLOutputElement>("level");
const status = element<HTMLParagraphElement>("status");
const problem = element<HTMLParagraphElement>("error");
const result = element<HTMLElement>("result");
const canvas = element<HTMLCanvasElement>("picture");
const facts = element<HTMLDListElement>("facts");

/** The last stream that was asked for: answers to earlier ones come too late. */
let asked = { id: 0, name: "", size: 0 };
let bundle = "";
/** The same picture at rising qualities, one of which is shown. */
let series: readonly URL[] = [];

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => answered(data));
worker.addEventListener("error", (event) => fail(`the decoder did not start: ${event.message || "see the console"}`));

const opening: Request = { kind: "open", bundle: new URL("bundle/", location.href).href };
worker.postMessage(opening);

function answered(answer: Answer): void {
  switch (answer.kind) {
    case "progress":
      status.textContent = `Opening the bundle … ${megabytes(answer.bytes)} of ${megabytes(answer.total)}`;
      break;
    case "open":
      bundle = answer.name;
      status.textContent = asked.id ? decoding() : `Ready: ${bundle}, opened in ${seconds(answer.milliseconds)}.`;
      document.body.dataset.state = "ready";
      break;
    case "failed":
      fail(answer.message);
      break;
    case "error":
      if (answer.id === asked.id) fail(`${asked.name}: ${answer.message}`);
      break;
    case "picture":
      if (answer.id === asked.id) void show(answer);
  }
}

function decoding(): string {
  return bundle ? `Decoding ${asked.name} …` : `Opening the bundle; ${asked.name} is next …`;
}

/** Says what is wrong, and shows no picture. */
function fail(message: string): void {
  result.hidden = true;
  slider.hidden = true;
  problem.textContent = message;
  problem.hidden = false;
  status.textContent = bundle ? `Ready: ${bundle}.` : "";
  document.body.dataset.state = "error";
}

/** Of a series, the picture before stays until the next one is there. */
async function decode(name: string, read: () => Promise<ArrayBuffer>, of: readonly URL[] = []): Promise<void> {
  const id = asked.id + 1;
  asked = { id, name, size: 0 };
  problem.hidden = true;
  if (of !== series) result.hidden = true;
  series = of;
  slider.hidden = series.length < 2;
  status.textContent = decoding();
  document.body.dataset.state = "decoding";
  try {
    const bytes = await read();
    if (id !== asked.id) return;
    asked = { id, name, size: bytes.byteLength };
    const request: Request = { kind: "decode", id, bytes };
    worker.postMessage(request, [bytes]);
  } catch (error) {
    fail(`${name}: it cannot be read: ${(error as Error).message}`);
  }
}

async function show(answer: Extract<Answer, { kind: "picture" }>): Promise<void> {
  const { width, height, times } = answer;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d")!;
  context.putImageData(new ImageData(new Uint8ClampedArray(answer.data), width, height), 0, 0);
  const bits = (8 * asked.size) / (width * height);
  const rows: [string, string, string?][] = [
    ["Picture", `${width} × ${height}`],
    ["Quality", String(answer.quality)],
    ["Stream", `${kilobytes(asked.size)}, ${bits.toFixed(2)} bpp`],
    ["As PNG", "…"],
    ["As JPEG of quality 90", "…"],
    ["Container", milliseconds(times.parse), "whole"],
    ["Entropy coder", milliseconds(times.symbols)],
    ["Entropy networks", milliseconds(times.networks)],
    ["g_s, pixels", milliseconds(times.synthesis)],
    ["All", milliseconds(times.total), "whole"],
  ];
  facts.replaceChildren(...rows.flatMap(([term, value, kind]) => [text("dt", term, kind), text("dd", value, kind)]));
  level.textContent = String(answer.quality);
  result.hidden = false;
  status.textContent = `${asked.name}, decoded with ${bundle}.`;
  document.body.dataset.state = "done";
  for (const [row, type] of [
    [3, "image/png"],
    [4, "image/jpeg"],
  ] as const) {
    const other = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, type, 0.9));
    if (answer.id !== asked.id) return;
    if (other) facts.children[2 * row + 1]!.textContent = `${kilobytes(other.size)}, ${(other.size / asked.size).toFixed(1)} times`;
  }
}

function text(tag: string, content: string, kind?: string): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = content;
  if (kind) made.className = kind;
  return made;
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const kilobytes = (bytes: number) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : megabytes(bytes));
const milliseconds = (time: number) => (time < 10 ? `${time.toFixed(1)} ms` : `${Math.round(time)} ms`);
const seconds = (time: number) => `${(time / 1000).toFixed(1)} s`;

function take(chosen: File | undefined): void {
  if (chosen) void decode(chosen.name, () => chosen.arrayBuffer());
}

file.addEventListener("change", () => {
  take(file.files?.[0]);
  file.value = ""; // so that the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"] as const)
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer?.files[0]);
  });

function slide(): void {
  const url = series[Number(quality.value)];
  if (url) void decode(nameOf(url), () => fetched(url), series);
}

quality.addEventListener("change", slide);

/** samples/list.json: names of streams beside it, or lists of names, the same picture at rising qualities. */
async function offerSamples(): Promise<void> {
  const folder = new URL("samples/", location.href);
  const answer = await fetch(new URL("list.json", folder)).catch(() => null);
  const names: unknown = answer?.ok ? await answer.json().catch(() => null) : null;
  if (!Array.isArray(names) || names.length === 0) return;
  for (const entry of names) {
    const urls = [entry].flat().map((name) => new URL(encodeURIComponent(String(name)), folder));
    const [first] = urls;
    if (!first) continue;
    const button = document.createElement("button");
    button.textContent = nameOf(first).replace(/\.s2c$/, "") + (urls.length > 1 ? ` and ${urls.length - 1} more` : "");
    button.addEventListener("click", () => {
      quality.max = String(urls.length - 1);
      quality.value = String(Math.floor(urls.length / 2));
      series = urls;
      result.hidden = true;
      slide();
    });
    samples.append(button);
  }
  samples.hidden = false;
}

const nameOf = (url: URL) => decodeURIComponent(url.pathname.split("/").pop()!);

async function fetched(url: URL): Promise<ArrayBuffer> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.arrayBuffer();
}

void offerSamples();

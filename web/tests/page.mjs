// Decodes in the page, in a headless Chromium: node page.mjs CHROMIUM URL FOLDER < steps.json > found.json
// streams: files of FOLDER to drop into the page; what the page shows then is printed.  decoded: files beside the page
// that its program.html decodes with the module itself; the hashes of their latents and their pixels are printed.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  ...["--disable-component-update", "--disable-sync"],
];

const [executablePath, url, folder] = process.argv.slice(2);
const { streams, screenshots, decoded } = JSON.parse(readFileSync(0, "utf8"));
const profile = mkdtempSync(join(tmpdir(), "s2c-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: FLAGS,
  viewport: { width: 1280, height: 860 },
});
try {
  const page = await context.newPage();
  const [requests, errors] = [[], []];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  const state = (wanted) => page.waitForFunction((states) => states.includes(document.body.dataset.state), wanted, { timeout: 240_000 });
  await page.goto(url);
  await state(["ready", "error"]);
  const found = [];
  for (const name of streams) {
    await page.setInputFiles("#file", join(folder, name));
    await page.waitForFunction((text) => document.body.innerText.includes(text), name);
    await state(["done", "error"]);
    found.push(await page.evaluate(shown));
  }
  for (const [file, width, height] of screenshots ?? []) {
    await page.setViewportSize({ width, height });
    await page.screenshot({ path: file, fullPage: true });
  }
  // The first sample is one stream, the second a series: its slider begins at the upper of two, and is moved to the lower.
  const samples = page.locator("#samples button");
  for (const step of (await samples.count()) ? [() => samples.nth(0).click(), () => samples.nth(1).click(), () => page.locator("#quality").fill("0")] : []) {
    const before = await page.locator("#status").textContent();
    await step();
    await page.waitForFunction((text) => document.getElementById("status").textContent !== text, before);
    await state(["done", "error"]);
    found.push(await page.evaluate(shown));
  }
  const pictures = decoded ? await decodedBeside(page, decoded) : [];
  process.stdout.write(JSON.stringify({ found, pictures, requests, errors }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}

/** What the decoder gives a page that imports it without a bundler. */
async function decodedBeside(page, names) {
  await page.goto(new URL("program.html", url).href);
  return page.evaluate(async (files) => {
    const { S2C } = await import(new URL("decoder/index.js", location.href).href);
    const codec = await S2C.open(new URL("bundle/", location.href));
    const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const found = [];
    for (const name of files) {
      const bytes = await (await fetch(new URL(name, location.href))).arrayBuffer();
      const latents = [];
      for (const { data } of await codec.decodeLatents(bytes))
        latents.push(hex(new Uint8Array(await crypto.subtle.digest("SHA-256", data.slice()))));
      const picture = await codec.decode(bytes);
      found.push({ latents, imageData: picture instanceof ImageData, pixels: hex(picture.data) });
    }
    await codec.close();
    return found;
  }, names);
}

/** In the page: what it says, and the picture's pixels, RGB in base64. */
async function shown() {
  const [error, result] = ["error", "result"].map((id) => document.getElementById(id));
  const canvas = document.getElementById("picture");
  const facts = document.getElementById("facts");
  let pixels = null;
  if (!result.hidden) {
    for (let wait = 0; wait < 200 && facts.children[9].textContent === "…"; wait++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (let i = 0; i < data.length; i++) if (i % 4 < 3) text += String.fromCharCode(data[i]);
    pixels = btoa(text);
  }
  return {
    error: error.hidden ? null : error.textContent,
    status: document.getElementById("status").textContent,
    slider: document.getElementById("slider").hidden ? null : document.getElementById("slider").innerText.trim(),
    facts: Array.from(facts.children, (child) => child.textContent),
    pixels,
  };
}

// Compiles the entropy coder of native/ to WebAssembly, as it is, and writes it into a TypeScript module.
// Needs `python -m pip install ziglang`; PYTHON names the Python that has it.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const native = join(root, "native");
const sources = readdirSync(join(native, "src")).filter((name) => name.endsWith(".c")).sort();
const exported = [
  "malloc",
  "free",
  "s2c_version",
  "s2c_strerror",
  "s2c_crc32c",
  "s2c_tables_create",
  "s2c_tables_free",
  "s2c_decoder_create",
  "s2c_decoder_read",
  "s2c_decoder_finish",
  "s2c_decoder_free",
];
const folder = mkdtempSync(join(tmpdir(), "s2c-coder-"));
const cache = join(root, "build", "zig");
try {
  mkdirSync(cache, { recursive: true });
  const command = [
    ...["-m", "ziglang", "cc", "--target=wasm32-wasi", "-mexec-model=reactor", "-O3", "-std=c11", "-fvisibility=hidden"],
    ...["-DS2C_BUILDING", `-I${join(native, "include")}`, "-Wl,--strip-all"],
    ...exported.map((name) => `-Wl,--export=${name}`),
    ...sources.map((name) => join(native, "src", name)),
    ...["-o", join(folder, "coder.wasm")],
  ];
  execFileSync(process.env.PYTHON ?? "python3", command, {
    stdio: "inherit",
    env: { ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache, ...process.env },
  });
  const module = readFileSync(join(folder, "coder.wasm"));
  const text = `// Made by scripts/coder.mjs of native/src: WebAssembly in base64.\nexport default "${module.toString("base64")}";\n`;
  writeFileSync(new URL("../src/decoder/coder_module.ts", import.meta.url), text);
  console.log(`src/decoder/coder_module.ts: ${module.length} bytes of WebAssembly`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

import { defineConfig } from "vite";

// The page: into dist/site, with addresses relative to where it lies, so that any static server will do.
export default defineConfig({
  base: "./",
  build: { outDir: "dist/site", target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
  worker: { format: "es" },
});

import { defineConfig } from "vite";

// The decoder by itself, for other pages and for Node: into dist/decoder.
export default defineConfig({
  publicDir: false,
  build: {
    outDir: "dist/decoder",
    target: "es2022",
    minify: false,
    lib: { entry: "src/decoder/index.ts", formats: ["es"], fileName: "index" },
    rollupOptions: { external: [/^onnxruntime-web/] },
  },
});

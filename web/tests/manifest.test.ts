import { expect, it } from "vitest";
import { decodingGraphs, type Manifest } from "../src/decoder/manifest.js";

/** A manifest of these g_s, as far as graphs are chosen by it. */
function withGraphs(...drawing: string[]): Manifest {
  const contexts = [0, 1, 2, 3, 4].flatMap((k) => [`context_${k}_anchor`, `context_${k}_nonanchor`]);
  const exact = ["h_s", ...contexts].map((name) => [name, { exact: true }]);
  const graphs = Object.fromEntries([...exact, ...drawing.map((name) => [name, { exact: false }])]);
  return { graphs } as unknown as Manifest;
}

it("draws with the full g_s, or with the one that is there", () => {
  expect(decodingGraphs(withGraphs("g_s")).at(-1)).toBe("g_s");
  expect(decodingGraphs(withGraphs("g_s", "g_s.fast")).at(-1)).toBe("g_s");
  expect(decodingGraphs(withGraphs("g_s.fast")).at(-1)).toBe("g_s.fast");
  expect(decodingGraphs(withGraphs("g_s", "g_s.fast"), "fast").at(-1)).toBe("g_s.fast");
});

it("does not draw with another one than was asked for", () => {
  expect(() => decodingGraphs(withGraphs("g_s.fast"), "full")).toThrow("expected g_s, found");
  expect(() => decodingGraphs(withGraphs("g_s.fast"), "fastest")).toThrow("expected g_s.fastest, found");
  expect(() => decodingGraphs(withGraphs("g_s.fast", "g_s.fastest"))).toThrow("expected g_s, found");
});

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { S2C, S2CError, StreamError } from "../src/decoder/index.js";
import { cases, describeWithPython, FOLDER, file } from "./cases.js";

const BUNDLES = ["bundle", "web"];

function read(bundle: string) {
  const folder = join(FOLDER, cases().bundles[bundle]!);
  return async (name: string) => Uint8Array.from(readFileSync(join(folder, name)));
}

for (const name of BUNDLES)
  describeWithPython(`decoding with the ${name === "web" ? "web bundle" : "bundle"}`, () => {
    let codec: S2C;
    beforeAll(async () => {
      codec = await S2C.open(join(FOLDER, cases().bundles[name]!));
    });
    afterAll(() => codec.close());

    it("gives the latents of Python, to the last bit", async () => {
      for (const { stream, latents } of cases().pictures) {
        const found = await codec.decodeLatents(file(stream));
        const hashes = found.map(({ data }) => createHash("sha256").update(new Uint8Array(data.slice().buffer)).digest("hex"));
        expect(hashes, stream).toEqual(latents);
      }
    });

    it("gives the pixels of Python, within one level", async () => {
      for (const { stream, pixels, width, height } of cases().pictures) {
        const found = await codec.decode(file(stream));
        expect([found.width, found.height]).toEqual([width, height]);
        const expected = file(pixels);
        let largest = 0;
        for (let pixel = 0; pixel < width * height; pixel++) {
          expect(found.data[4 * pixel + 3]).toBe(255);
          for (let channel = 0; channel < 3; channel++)
            largest = Math.max(largest, Math.abs(found.data[4 * pixel + channel]! - expected[3 * pixel + channel]!));
        }
        expect(largest, stream).toBeLessThanOrEqual(1);
      }
    });

    it("gives these pixels in blocks of any size, too", async () => {
      for (const blockPixels of [1, 128 * 128]) {
        const { stream, pixels } = cases().pictures[0]!;
        const [whole, found] = [await codec.decode(file(stream)), await codec.decode(file(stream), { blockPixels })];
        const largest = found.data.reduce((most, level, i) => Math.max(most, Math.abs(level - whole.data[i]!)), 0);
        expect(largest).toBeLessThanOrEqual(1);
        expect((found.data.length * 3) / 4).toBe(file(pixels).length);
      }
    });

    it("gives an error, and no picture, for streams that must not decode", async () => {
      for (const [stream, message] of Object.entries(cases().refused))
        await expect(codec.decode(file(stream)), stream).rejects.toThrow(message);
      await expect(codec.decode(file(cases().pictures[0]!.stream), { maxPixels: 64 })).rejects.toThrow(StreamError);
      await expect(codec.decode("a.s2c" as never)).rejects.toThrow("expected its bytes, found string");
    });

    it("decodes again after an error, and several at once in turns", async () => {
      const streams = cases().pictures.map(({ stream }) => file(stream));
      await expect(codec.decode(file(Object.keys(cases().refused)[0]!))).rejects.toThrow(S2CError);
      const found = await Promise.all(streams.map((stream) => codec.decode(stream)));
      expect(found.map(({ width, height }) => [width, height])).toEqual(
        cases().pictures.map(({ width, height }) => [width, height]),
      );
    });

    it("tells how long the stages took", async () => {
      let total = -1;
      await codec.decode(file(cases().pictures[0]!.stream), {
        onTimes: (times) => {
          total = times.total - times.parse - times.symbols - times.networks - times.synthesis;
        },
      });
      expect(total).toBeGreaterThanOrEqual(0);
    });
  });

describeWithPython("what must not be opened", () => {
  for (const name of BUNDLES) {
    it(`files of the ${name} that were changed`, async () => {
      const own = read(name);
      for (const damaged of ["h_s.onnx", "g_s.onnx", "tables.npz", "known_answers.npz"]) {
        const readFile = async (wanted: string) => {
          const data = await own(wanted);
          if (wanted === damaged) data[data.length >> 1]! ^= 1;
          return data;
        };
        await expect(S2C.open("", { readFile }), damaged).rejects.toThrow(`${damaged}: expected SHA-256`);
      }
    });

    it(`a manifest of the ${name} with another fingerprint, array or schema`, async () => {
      const own = read(name);
      const open = (change: (manifest: any) => void) => {
        const readFile = async (wanted: string) => {
          if (wanted !== "manifest.json") return own(wanted);
          const manifest = JSON.parse(new TextDecoder().decode(await own(wanted)));
          change(manifest);
          return new TextEncoder().encode(JSON.stringify(manifest));
        };
        return S2C.open("", { readFile });
      };
      await expect(open((m) => (m.fingerprint = "0".repeat(64)))).rejects.toThrow("fingerprint: expected");
      await expect(open((m) => (m.numbers["h_s.0.bias"].sha256 = "0".repeat(64)))).rejects.toThrow("fingerprint: expected");
      await expect(open((m) => delete m.graphs.h_s)).rejects.toThrow("expected h_s, found");
      await expect(open((m) => delete m.files["h_s.onnx"])).rejects.toThrow("h_s: file: expected h_s.onnx, listed");
      await expect(open((m) => (m.graphs.g_s.exact = true))).rejects.toThrow(S2CError);
      await expect(open((m) => (m.model.latent_channels = 1))).rejects.toThrow("inverse_gain: expected float32 8x1, found");
      const schema = name === "web" ? "web_schema" : "schema_version";
      await expect(open((m) => (m[schema] = 3))).rejects.toThrow(`${schema}: expected a whole number of 1 to`);
      await expect(S2C.open("", { readFile: async () => new TextEncoder().encode("{") })).rejects.toThrow("JSON");
      await expect(S2C.open("", { readFile: own, synthesis: "quick" })).rejects.toThrow("expected g_s.quick, found");
    });
  }

  it("a graph that gives another answer", async () => {
    const own = read("web");
    const readFile = async (wanted: string) => {
      if (wanted !== "manifest.json") return own(wanted);
      const manifest = JSON.parse(new TextDecoder().decode(await own(wanted)));
      manifest.graphs.h_s.probe.outputs.hyper = "0".repeat(64);
      return new TextEncoder().encode(JSON.stringify(manifest));
    };
    await expect(S2C.open("", { readFile })).rejects.toThrow(`h_s: hyper: expected SHA-256 ${"0".repeat(64)} of its known answer`);
  });

  it("a folder without a bundle", async () => {
    await expect(S2C.open(join(FOLDER, "nowhere"))).rejects.toThrow("manifest.json: cannot be read");
  });
});

import { expect, it } from "vitest";
import { Coder } from "../src/decoder/coder.js";
import { BundleError, StreamError } from "../src/decoder/errors.js";
import { parseNpz } from "../src/decoder/npz.js";
import { cases, describeWithPython, file, fromHex } from "./cases.js";

function tables(name: string) {
  const arrays = parseNpz(name, file(name));
  const take = (key: string) => arrays.get(key)!.data;
  return {
    sizes: take("sizes") as Uint16Array,
    freqs: take("freqs") as Uint16Array,
    centers: take("centers") as Int32Array,
    shifts: take("shifts") as Uint8Array,
    skipBelow: take("skip_below")[0]!,
  };
}

describeWithPython("the entropy coder in WebAssembly", () => {
  it("reads the symbols that Python wrote", async () => {
    for (const { tables: name, payload, batches } of cases().payloads) {
      const coder = await Coder.open(tables(name));
      const reader = coder.decoder(file(payload));
      for (const { indexes, symbols } of batches) {
        const found = reader.read(fromHex(indexes));
        expect(Buffer.from(found.buffer, found.byteOffset, found.byteLength).toString("hex")).toBe(symbols);
      }
      reader.finish();
      reader.free();
      coder.close();
    }
    expect(cases().payloads.length).toBeGreaterThan(3);
  });

  it("refuses payloads that are cut or changed, with its own words", async () => {
    const { tables: name, payload, batches } = cases().payloads[0]!;
    const coder = await Coder.open(tables(name));
    const read = (data: Uint8Array) => {
      const reader = coder.decoder(data);
      try {
        for (const { indexes } of batches) reader.read(fromHex(indexes));
        reader.finish();
      } finally {
        reader.free();
      }
    };
    const whole = file(payload);
    read(whole);
    expect(() => read(whole.subarray(0, whole.length - 1))).toThrow(StreamError);
    expect(() => read(whole.subarray(0, 3))).toThrow("entropy coder: ");
    const changed = whole.slice();
    changed[0] = 7;
    expect(() => read(changed)).toThrow("lane");
  });

  it("refuses tables that are none", async () => {
    const good = tables(cases().payloads[0]!.tables);
    const freqs = good.freqs.slice();
    freqs[0]! += 1;
    await expect(Coder.open({ ...good, freqs })).rejects.toThrow(BundleError);
  });

  it("computes the same CRC-32C", async () => {
    const coder = await Coder.open(tables(cases().payloads[0]!.tables));
    expect(coder.crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  });
});

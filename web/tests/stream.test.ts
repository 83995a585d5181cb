import { describe, expect, it } from "vitest";
import { crc32c } from "../src/decoder/crc32c.js";
import { StreamError } from "../src/decoder/errors.js";
import { parseStream, type Stream } from "../src/decoder/stream.js";
import { cases, describeWithPython, fromHex } from "./cases.js";

const ascii = (text: string) => new TextEncoder().encode(text);

describe("CRC-32C", () => {
  it("has the check value of docs/bitstream.md", () => expect(crc32c(ascii("123456789"))).toBe(0xe3069283));

  it("has the values of RFC 3720, B.4", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i))).toBe(0x113fdb5c);
    expect(crc32c(new Uint8Array())).toBe(0);
  });
});

/** The example of docs/bitstream.md, byte for byte. */
const EXAMPLE = fromHex(`
  f5 53 32 43  01  03  11  60  46 00  40 00  01 00  00 01 02 03 04 05 06 07
  03 00 00 00 05 99 b8 1d  04 00 00 00 48 e1 6f 57  04 00 00 00 31 a8 6d fb  05 00 00 00 7d af 52 38
  d6 4f 79 9a  69 63 63  49 49 2a 00  6c 65 66 74  72 69 67 68 74`);

describe("the example of docs/bitstream.md", () => {
  it("is read as it is told", () => {
    const { icc, exif, tiles, ...fields } = parseStream(EXAMPLE);
    expect(fields).toEqual({
      width: 70,
      height: 64,
      variant: "conv",
      preset: "tiny",
      quality: 4,
      tile: 64,
      seamless: false,
      fingerprint: "0001020304050607",
    });
    expect(icc).toEqual(ascii("icc"));
    expect(exif).toEqual(ascii("II*\0"));
    expect(tiles).toEqual([
      { left: 0, top: 0, width: 64, height: 64, payload: ascii("left") },
      { left: 64, top: 0, width: 6, height: 64, payload: ascii("right") },
    ]);
  });

  it("is rejected wherever it is cut, appended to or changed", () => {
    for (let length = 0; length < EXAMPLE.length; length++)
      expect(() => parseStream(EXAMPLE.subarray(0, length))).toThrow(StreamError);
    expect(() => parseStream(Uint8Array.of(...EXAMPLE, 0))).toThrow("sections: expected 74 bytes in all, found 75 bytes");
    for (let place = 0; place < EXAMPLE.length; place++) {
      const changed = EXAMPLE.slice();
      changed[place]! ^= 16;
      expect(() => parseStream(changed), `byte ${place}`).toThrow(StreamError);
    }
  });

  it("is rejected by a reader of smaller pictures", () => {
    expect(() => parseStream(EXAMPLE, 128 * 64 - 1)).toThrow("dimensions: expected at most 8191 pixels, found 70x64");
    expect(parseStream(EXAMPLE, 128 * 64).width).toBe(70);
  });
});

/** With the checksum of the header made right again. */
function changed(place: number, ...bytes: number[]): Uint8Array {
  const data = EXAMPLE.slice();
  data.set(bytes, place);
  new DataView(data.buffer).setUint32(54, crc32c(data.subarray(0, 54)), true);
  return data;
}

describe("what docs/bitstream.md rejects", () => {
  it.each([
    [changed(0, 0xf6), "magic: expected f5533243, found f6533243"],
    [changed(4, 2), "version: expected 1, found 2"],
    [changed(5, 0x0b), "flags: expected bits 0 to 2 only, found 0xb"],
    [changed(8, 0, 0), "width: expected 1 to 65535, found 0"],
    [changed(10, 0, 0), "height: expected 1 to 65535, found 0"],
    [changed(6, 0x41), "variant: expected 0 to 3, found 4"],
    [changed(6, 0x15), "preset: expected 0 to 4, found 5"],
    [changed(7, 225), "quality step: expected 0 to 224, found 225"],
    [changed(12, 0, 0), "header: checksum"],
    [changed(8, 255, 255, 255, 255), "section table: expected"],
    [changed(22, 0), "section 0: expected 1 to 16777216 bytes of metadata, found 0"],
    [changed(38, 255, 255, 255, 255), "sections: expected 4294967365 bytes in all, found 74 bytes"],
  ])("%#", (data, message) => expect(() => parseStream(data)).toThrow(message));
});

function fieldsOf(stream: Stream): Record<string, unknown> {
  const { icc, exif, tiles, ...fields } = stream;
  const sums = tiles.map((tile) => [tile.left, tile.top, tile.width, tile.height, crc32c(tile.payload)]);
  return { ...fields, icc: icc && crc32c(icc), exif: exif && crc32c(exif), tiles: sums };
}

describeWithPython("mutated streams", () => {
  it("are errors, or have the fields that Python reads", () => {
    let good = 0;
    for (const { hex, fields } of cases().parsed) {
      if (fields) {
        good++;
        expect(fieldsOf(parseStream(fromHex(hex), 2 ** 20))).toEqual(fields);
      } else expect(() => parseStream(fromHex(hex), 2 ** 20), hex).toThrow(StreamError);
    }
    expect(good).toBeGreaterThan(5);
    expect(cases().parsed.length - good).toBeGreaterThan(150);
  });
});

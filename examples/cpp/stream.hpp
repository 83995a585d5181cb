// The .s2c container: taken apart and checked, in the order of docs/bitstream.md ("Reading, in this order").
#pragma once

#include <s2c.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace s2c_example {

// A tile: its place in the picture, in pixels, and where its payload lies in the file.
struct Tile {
    uint32_t left, top, width, height;
    size_t offset, size;
};

struct Stream {
    uint32_t width = 0, height = 0;
    double quality = 0;
    bool seamless = false; // the tiles' latents are parts of one
    std::array<uint8_t, 8> fingerprint{};
    std::vector<Tile> tiles;
    std::vector<uint8_t> file;
};

[[noreturn]] inline void bad_stream(const std::string &what) { throw std::runtime_error("bad stream: " + what); }

inline uint32_t little(const uint8_t *bytes, int count)
{
    uint32_t value = 0;
    for (int i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

// Throws std::runtime_error for anything but a whole, undamaged stream of at most max_pixels.
inline Stream parse_stream(std::vector<uint8_t> file, uint64_t max_pixels = uint64_t(1) << 27)
{
    const uint8_t *data = file.data();
    if (file.size() < 5 || std::memcmp(data, "\xf5S2C", 4) != 0)
        bad_stream("this is no .s2c file");
    if (data[4] != 1)
        bad_stream("version " + std::to_string(data[4]) + ", expected 1");
    if (file.size() < 22)
        bad_stream("the header is cut off");
    const uint32_t flags = data[5], tile = little(data + 12, 2) * 64;
    Stream stream;
    stream.width = little(data + 8, 2);
    stream.height = little(data + 10, 2);
    if (flags > 7 || stream.width == 0 || stream.height == 0)
        bad_stream("unknown flags, or no pixels");

    const uint64_t columns = tile ? (stream.width + tile - 1) / tile : 1;
    const uint64_t rows = tile ? (stream.height + tile - 1) / tile : 1;
    const uint64_t metadata = (flags & 1) + (flags >> 1 & 1), count = columns * rows + metadata;
    stream.seamless = flags & 4;
    if (stream.seamless && columns * rows < 2)
        bad_stream("a seamless one of one tile");
    if (26 + 8 * count > file.size()) // before anything is allocated for count
        bad_stream("the section table is cut off");
    const uint8_t *table = data + 22, *body = table + 8 * count + 4;
    if (s2c_crc32c(data, 22 + 8 * count, 0) != little(body - 4, 4))
        bad_stream("wrong checksum of the header");
    if (data[6] >> 4 > 3 || (data[6] & 15) > 4 || data[7] > 224 || uint64_t(stream.width) * stream.height > max_pixels)
        bad_stream("model, quality or size out of range");
    stream.quality = 1 + data[7] / 32.0;
    std::copy(data + 14, data + 22, stream.fingerprint.begin());

    uint64_t total = 26 + 8 * count;
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t length = little(table + 8 * i, 4);
        if (i < metadata && (length == 0 || length > 16u << 20))
            bad_stream("ICC or EXIF of an impossible length");
        total += length;
    }
    if (total != file.size())
        bad_stream(std::to_string(file.size()) + " bytes, expected " + std::to_string(total));
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t length = little(table + 8 * i, 4);
        if (s2c_crc32c(body, length, 0) != little(table + 8 * i + 4, 4))
            bad_stream("wrong checksum of section " + std::to_string(i));
        if (i >= metadata) { // ICC and EXIF are left to others
            const uint32_t left = uint32_t((i - metadata) % columns) * tile, top = uint32_t((i - metadata) / columns) * tile;
            const uint32_t side = tile ? tile : UINT32_MAX;
            stream.tiles.push_back({left, top, std::min(side, stream.width - left), std::min(side, stream.height - top),
                                    size_t(body - data), length});
        }
        body += length;
    }
    stream.file = std::move(file);
    return stream;
}

} // namespace s2c_example

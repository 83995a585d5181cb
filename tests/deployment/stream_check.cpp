// For each file: its SHA-256, and what examples/cpp/stream.hpp makes of it.  For test_cpp_example.py.
#include "model.hpp"
#include "stream.hpp"

#include <iostream>

using namespace s2c_example;

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const std::vector<uint8_t> file = read_file(argv[i]);
        std::cout << sha256(file) << ' ';
        try {
            const Stream stream = parse_stream(file, 1 << 20);
            uint32_t sum = 0;
            for (const Tile &tile : stream.tiles) // every byte of every payload is read
                sum += s2c_crc32c(stream.file.data() + tile.offset, tile.size, 0) % 1000;
            std::cout << stream.width << ' ' << stream.height << ' ' << stream.quality << ' ' << stream.tiles.size() << ' '
                      << sum << '\n';
        } catch (const std::runtime_error &error) {
            std::cout << error.what() << '\n';
        }
    }
}

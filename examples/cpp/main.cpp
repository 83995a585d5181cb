// decode MODEL.txt STREAM.s2c PICTURE.ppm: a .s2c stream to a picture, without Python.
#include "decode.hpp"

#include <cstdlib>
#include <iostream>

using namespace s2c_example;

int main(int argc, char **argv)
try {
    if (argc < 4 || argc > 5) {
        std::cerr << "usage: " << argv[0] << " MODEL.txt STREAM.s2c PICTURE.ppm [THREADS]\n";
        return 2;
    }
    const int threads = argc == 5 ? std::atoi(argv[4]) : 1;
    const Stream stream = parse_stream(read_file(argv[2]));
    std::ifstream description(argv[1]), values(std::string(argv[1]) + ".answers", std::ios::binary);
    const Model model = read_model(description);
    const std::unique_ptr<Graphs> graphs = make_graphs(threads);
    open_graphs(*graphs, model, read_answers(description, values));

    const std::vector<uint8_t> pixels = decode_stream(stream, model, *graphs, threads);
    std::ofstream out(argv[3], std::ios::binary);
    out << "P6 " << stream.width << ' ' << stream.height << " 255\n";
    out.write(reinterpret_cast<const char *>(pixels.data()), std::streamsize(pixels.size()));
    if (!out.flush())
        throw std::runtime_error(std::string("cannot write ") + argv[3]);
    return 0;
} catch (const std::exception &error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
}

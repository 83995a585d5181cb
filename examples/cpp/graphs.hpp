// "Run graph NAME on these inputs": all that decoding asks of an engine.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace s2c_example {

// float32, batch x channels x height x width, in C order.
struct Tensor {
    std::array<int64_t, 4> shape{1, 0, 0, 0};
    std::vector<float> data;

    Tensor() = default;
    Tensor(int64_t channels, int64_t height, int64_t width)
        : shape{1, channels, height, width}, data(size_t(channels * height * width))
    {
    }
};

using Tensors = std::map<std::string, Tensor>;

class Graphs {
  public:
    virtual ~Graphs() = default;

    // Opens a graph from bytes whose SHA-256 has been checked.
    virtual void open(const std::string &name, const std::vector<uint8_t> &bytes) = 0;
    virtual Tensors run(const std::string &name, const Tensors &inputs) = 0;
};

// Of the engine that the program is linked with: graphs_openvino.cpp or graphs_tensorrt.cpp.
std::unique_ptr<Graphs> make_graphs(int threads);

} // namespace s2c_example

// Graphs on a CPU with OpenVINO: the bundle's .onnx files.
#include "graphs.hpp"

#include <openvino/openvino.hpp>

#include <algorithm>
#include <stdexcept>

namespace s2c_example {

class OpenVinoGraphs : public Graphs {
  public:
    explicit OpenVinoGraphs(int threads) : threads_(threads) {}

    void open(const std::string &name, const std::vector<uint8_t> &bytes) override
    {
        Opened &opened = opened_[name];
        opened.source = core_.read_model(std::string(bytes.begin(), bytes.end()), ov::Tensor());
        // The plugin's own default is bfloat16 where the processor has it, which would break the exact graphs.
        ov::CompiledModel compiled = core_.compile_model(
            opened.source, "CPU", ov::hint::inference_precision(ov::element::f32), ov::inference_num_threads(threads_),
            ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
        if (compiled.get_property(ov::hint::inference_precision) != ov::element::f32)
            throw std::runtime_error("OpenVINO does not compute " + name + " in float32");
        opened.request = compiled.create_infer_request();
    }

    Tensors run(const std::string &name, const Tensors &inputs) override
    {
        Opened &opened = opened_.at(name);
        // Compiling merges tensors and with them their names; their order stays the file's.
        for (size_t i = 0; i < opened.source->inputs().size(); i++) {
            const Tensor &input = inputs.at(opened.source->input(i).get_any_name());
            const ov::Shape shape(input.shape.begin(), input.shape.end());
            opened.request.set_input_tensor(
                i, ov::Tensor(ov::element::f32, shape, const_cast<float *>(input.data.data())));
        }
        opened.request.infer();
        Tensors outputs;
        for (size_t i = 0; i < opened.source->outputs().size(); i++) {
            const ov::Tensor found = opened.request.get_output_tensor(i);
            Tensor &output = outputs[opened.source->output(i).get_any_name()];
            std::copy_n(found.get_shape().begin(), 4, output.shape.begin());
            output.data.assign(found.data<float>(), found.data<float>() + found.get_size());
        }
        return outputs;
    }

  private:
    struct Opened {
        std::shared_ptr<ov::Model> source;
        ov::InferRequest request;
    };

    ov::Core core_;
    std::map<std::string, Opened> opened_;
    int threads_;
};

std::unique_ptr<Graphs> make_graphs(int threads) { return std::make_unique<OpenVinoGraphs>(threads); }

} // namespace s2c_example

// Graphs on a GPU with TensorRT 8.6 to 11, or TensorRT-RTX: engines that `s2c-deploy build` made.
#include "graphs.hpp"

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <iostream>
#include <stdexcept>

namespace s2c_example {

static void check(cudaError_t status)
{
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

static void require(bool good, const std::string &what)
{
    if (!good)
        throw std::runtime_error("TensorRT: " + what);
}

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, const char *message) noexcept override
    {
        if (severity <= Severity::kWARNING)
            std::cerr << "TensorRT: " << message << '\n';
    }
};

// Memory on the GPU that grows and stays: a picture of the same size allocates nothing.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { cudaFree(data_); }

    void *at_least(size_t size)
    {
        if (size > size_) {
            check(cudaFree(data_));
            data_ = nullptr;
            size_ = 0;
            check(cudaMalloc(&data_, size));
            size_ = size;
        }
        return data_;
    }

  private:
    void *data_ = nullptr;
    size_t size_ = 0;
};

class TensorRtGraphs : public Graphs {
  public:
    TensorRtGraphs() : runtime_(nvinfer1::createInferRuntime(logger_))
    {
        require(runtime_ != nullptr, "no runtime: is there a GPU and a driver?");
        check(cudaStreamCreate(&stream_));
    }

    ~TensorRtGraphs() override { cudaStreamDestroy(stream_); }

    void open(const std::string &name, const std::vector<uint8_t> &bytes) override
    {
        // An engine is a program: only bytes of a known hash come here (open_graphs).
        Opened &opened = opened_[name];
        opened.engine.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
        require(opened.engine != nullptr, "cannot load the engine of " + name);
        opened.context.reset(opened.engine->createExecutionContext());
        require(opened.context != nullptr, "no memory to run " + name);
        for (int i = 0; i < opened.engine->getNbIOTensors(); i++) {
            const char *tensor = opened.engine->getIOTensorName(i);
            const bool input = opened.engine->getTensorIOMode(tensor) == nvinfer1::TensorIOMode::kINPUT;
            require(opened.engine->getTensorDataType(tensor) == nvinfer1::DataType::kFLOAT ||
                        (!input && in_bytes(opened, tensor)),
                    name + ": " + tensor + " is not float32 (export with --io float32)");
        }
    }

    Tensors run(const std::string &name, const Tensors &inputs) override
    {
        Opened &opened = opened_.at(name);
        std::map<std::string, Tensor> outputs;
        each(opened, nvinfer1::TensorIOMode::kINPUT, [&](const char *tensor) {
            const Tensor &input = inputs.at(tensor);
            nvinfer1::Dims shape{};
            shape.nbDims = 4;
            for (int i = 0; i < 4; i++)
                shape.d[i] = static_cast<int32_t>(input.shape[i]);
            require(opened.context->setInputShape(tensor, shape),
                    name + ": " + tensor + ": a size outside the engine's profile (s2c-deploy build --profile)");
            const size_t size = input.data.size() * sizeof(float);
            void *device = opened.buffers[tensor].at_least(size);
            check(cudaMemcpyAsync(device, input.data.data(), size, cudaMemcpyHostToDevice, stream_));
            require(opened.context->setTensorAddress(tensor, device), name + ": " + tensor);
        });
        each(opened, nvinfer1::TensorIOMode::kOUTPUT, [&](const char *tensor) {
            const nvinfer1::Dims shape = opened.context->getTensorShape(tensor); // known once all inputs' are
            require(shape.nbDims == 4, name + ": " + tensor + ": expected four dimensions");
            Tensor output(shape.d[1], shape.d[2], shape.d[3]);
            const size_t size = output.data.size() * (in_bytes(opened, tensor) ? 1 : sizeof(float));
            void *device = opened.buffers[tensor].at_least(size);
            require(opened.context->setTensorAddress(tensor, device), name + ": " + tensor);
            if (std::string(tensor) != "pixels") // g_s rounds by itself, too; this decoder rounds x_hat
                outputs[tensor] = std::move(output);
        });
        require(opened.context->enqueueV3(stream_), "cannot run " + name);
        std::map<std::string, std::vector<uint8_t>> bytes; // indexes come as such
        for (auto &[tensor, output] : outputs) {
            void *host = output.data.data();
            size_t size = output.data.size() * sizeof(float);
            if (in_bytes(opened, tensor.c_str())) {
                bytes[tensor].resize(size = output.data.size());
                host = bytes[tensor].data();
            }
            const void *device = opened.buffers[tensor].at_least(0);
            check(cudaMemcpyAsync(host, device, size, cudaMemcpyDeviceToHost, stream_));
        }
        check(cudaStreamSynchronize(stream_));
        for (const auto &[tensor, values] : bytes)
            outputs[tensor].data.assign(values.begin(), values.end());
        return outputs;
    }

  private:
    struct Opened { // the context is destroyed before its engine
        std::unique_ptr<nvinfer1::ICudaEngine> engine;
        std::unique_ptr<nvinfer1::IExecutionContext> context;
        std::map<std::string, Buffer> buffers;
    };

    static bool in_bytes(const Opened &opened, const char *tensor)
    {
        return opened.engine->getTensorDataType(tensor) == nvinfer1::DataType::kUINT8;
    }

    template <class Use> static void each(Opened &opened, nvinfer1::TensorIOMode mode, Use use)
    {
        for (int i = 0; i < opened.engine->getNbIOTensors(); i++) {
            const char *tensor = opened.engine->getIOTensorName(i);
            if (opened.engine->getTensorIOMode(tensor) == mode)
                use(tensor);
        }
    }

    Logger logger_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::map<std::string, Opened> opened_;
    cudaStream_t stream_ = nullptr;
};

std::unique_ptr<Graphs> make_graphs(int) { return std::make_unique<TensorRtGraphs>(); }

} // namespace s2c_example

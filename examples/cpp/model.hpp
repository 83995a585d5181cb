// What describe_model.py wrote of a bundle: channels, tables, gains, and the graphs with their hashes and known answers.
#pragma once

#include "graphs.hpp"
#include "sha256.hpp"

#include <s2c.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace s2c_example {

struct Answer { // inputs and outputs of one graph
    std::string graph;
    Tensors inputs, outputs;
};

struct Model {
    std::string fingerprint; // 16 hexadecimal digits
    int64_t latent = 0, hyper = 0, levels = 0;
    std::vector<int64_t> groups;
    std::vector<std::vector<float>> inverse_gain;  // levels x latent
    std::vector<std::vector<uint8_t>> z_indexes;   // levels x hyper
    std::map<std::string, std::pair<std::string, std::string>> graphs; // name: SHA-256 and path
    std::shared_ptr<s2c_tables> tables;
};

inline std::vector<uint8_t> read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void expect(std::istream &in, const std::string &word)
{
    std::string found;
    if (!(in >> found) || found != word)
        throw std::runtime_error("bad model description: expected " + word + ", found " + found);
}

template <class T> std::vector<T> numbers(std::istream &in, int64_t count)
{
    std::vector<T> values;
    for (int64_t i = 0; i < count; i++) {
        double value = 0;
        if (!(in >> value))
            throw std::runtime_error("bad model description: too few numbers");
        values.push_back(T(value));
    }
    return values;
}

inline std::shared_ptr<s2c_tables> read_tables(std::istream &in)
{
    expect(in, "tables");
    const auto head = numbers<int64_t>(in, 2);
    std::vector<uint16_t> sizes, freqs;
    std::vector<int32_t> centers;
    std::vector<uint8_t> shifts;
    for (int64_t t = 0; t < head[0]; t++) {
        const auto row = numbers<int32_t>(in, 3);
        centers.push_back(row[0]);
        shifts.push_back(uint8_t(row[1]));
        sizes.push_back(uint16_t(row[2]));
        for (uint16_t frequency : numbers<uint16_t>(in, row[2]))
            freqs.push_back(frequency);
    }
    s2c_tables *tables = nullptr;
    const s2c_status status = s2c_tables_create(uint32_t(sizes.size()), sizes.data(), freqs.data(), centers.data(),
                                                shifts.data(), uint32_t(head[1]), &tables);
    if (status != S2C_OK)
        throw std::runtime_error(std::string("bad tables: ") + s2c_strerror(status));
    return {tables, s2c_tables_free};
}

// Reads a description up to its answers, and leaves the stream there.
inline Model read_model(std::istream &in)
{
    Model model;
    expect(in, "s2c-model");
    expect(in, "1");
    expect(in, "fingerprint");
    in >> model.fingerprint;
    expect(in, "channels");
    const auto channels = numbers<int64_t>(in, 2);
    model.latent = channels[0];
    model.hyper = channels[1];
    expect(in, "groups");
    model.groups = numbers<int64_t>(in, 5);
    model.tables = read_tables(in);
    expect(in, "levels");
    model.levels = numbers<int64_t>(in, 1)[0];
    for (int64_t level = 0; level < model.levels; level++) {
        model.inverse_gain.push_back(numbers<float>(in, model.latent));
        model.z_indexes.push_back(numbers<uint8_t>(in, model.hyper));
    }
    expect(in, "graphs");
    for (int64_t left = numbers<int64_t>(in, 1)[0]; left > 0; left--) {
        std::string name, hash, path;
        in >> name >> hash >> std::ws;
        std::getline(in, path);
        model.graphs[name] = {hash, path};
    }
    return model;
}

// The known answers: names and shapes in the description, values as float32 in a file beside it.
inline std::vector<Answer> read_answers(std::istream &in, std::istream &values)
{
    std::vector<Answer> answers;
    expect(in, "answers");
    for (int64_t left = numbers<int64_t>(in, 1)[0]; left > 0; left--) {
        std::string graph, kind, name;
        in >> graph >> kind >> name;
        const auto shape = numbers<int64_t>(in, 4);
        Tensor tensor(shape[1], shape[2], shape[3]);
        const auto bytes = std::streamsize(tensor.data.size() * sizeof(float)); // a little-endian machine's
        if (!values.read(reinterpret_cast<char *>(tensor.data.data()), bytes))
            throw std::runtime_error("bad known answers: too few numbers");
        if (kind == "first") {
            answers.push_back({graph, {}, {}});
            kind = "in";
        }
        (kind == "in" ? answers.back().inputs : answers.back().outputs)[name] = std::move(tensor);
    }
    return answers;
}

// Opens every graph of a model; each exact one must return its known answers to the last bit.
inline void open_graphs(Graphs &graphs, const Model &model, const std::vector<Answer> &answers)
{
    for (const auto &[name, file] : model.graphs) {
        const std::vector<uint8_t> bytes = read_file(file.second);
        if (const std::string found = sha256(bytes); found != file.first)
            throw std::runtime_error(file.second + ": expected SHA-256 " + file.first + ", found " + found);
        graphs.open(name, bytes); // these bytes, not the file again
    }
    for (const Answer &answer : answers) {
        const Tensors found = graphs.run(answer.graph, answer.inputs);
        for (const auto &[name, expected] : answer.outputs)
            if (found.at(name).shape != expected.shape || found.at(name).data != expected.data)
                throw std::runtime_error(answer.graph + ": " + name + " differs from its known answer");
    }
}

} // namespace s2c_example

// Tiles, from bytes to pixels: the walk of docs/bundle.md ("A tile, from bytes to pixels").
#pragma once

#include "model.hpp"
#include "stream.hpp"

namespace s2c_example {

// Symbols of one payload, batch by batch.
class SymbolReader {
  public:
    SymbolReader(const Model &model, const uint8_t *payload, size_t size, int threads)
    {
        s2c_decoder *decoder = nullptr;
        check(s2c_decoder_create(model.tables.get(), payload, size, &decoder));
        decoder_.reset(decoder, s2c_decoder_free);
        s2c_decoder_set_threads(decoder, uint32_t(threads));
    }

    std::vector<int16_t> read(const std::vector<uint8_t> &indexes)
    {
        std::vector<int16_t> symbols(indexes.size());
        check(s2c_decoder_read(decoder_.get(), indexes.data(), indexes.size(), symbols.data()));
        return symbols;
    }

    // Until the coder has ended where its encoder began, no symbol is to be trusted.
    void finish() { check(s2c_decoder_finish(decoder_.get())); }

  private:
    static void check(s2c_status status)
    {
        if (status != S2C_OK)
            bad_stream(s2c_strerror(status));
    }

    std::shared_ptr<s2c_decoder> decoder_;
};

class TileDecoder {
  public:
    TileDecoder(const Model &model, Graphs &graphs, int threads) : model_(model), graphs_(graphs), threads_(threads) {}

    // y_hat of a tile, in 1/16 steps.
    Tensor latent(const Stream &stream, const Tile &tile)
    {
        const double quality = stream.quality;
        const auto rows = int64_t((tile.height + 63) / 64), columns = int64_t((tile.width + 63) / 64);
        SymbolReader reader(model_, stream.file.data() + tile.offset, tile.size, threads_);
        Tensors hyper{{"hyper", take(graphs_.run("h_s", {{"z_hat", read_hyper(reader, rows, columns, quality)}}), "hyper")}};
        Tensor y_hat(model_.latent, 4 * rows, 4 * columns);
        int64_t start = 0;
        for (size_t k = 0; k < model_.groups.size(); start += model_.groups[k++])
            decode_group(reader, k, start, hyper, y_hat);
        reader.finish();
        return y_hat;
    }

    // x_hat, 3 x height x width in [0, 1], padded to multiples of 64.
    Tensor synthesize(const Tensor &y_hat, double quality)
    {
        return take(graphs_.run("g_s", {{"y_hat", y_hat}, {"inverse_gain", inverse_gain(quality)}}), "x_hat");
    }

  private:
    static Tensor take(Tensors tensors, const std::string &name) { return std::move(tensors.at(name)); }

    // The quality's place among the levels: the lower one, and how far it is to the next.
    std::pair<int64_t, double> level(double quality) const
    {
        const double position = std::min(std::max(quality - 1, 0.0), double(model_.levels - 1));
        const int64_t low = model_.levels > 1 ? std::min(int64_t(position), model_.levels - 2) : 0;
        return {low, position - double(low)};
    }

    Tensor inverse_gain(double quality) const
    {
        const auto [low, part] = level(quality);
        const auto &below = model_.inverse_gain[low], &above = model_.inverse_gain[std::min(low + 1, model_.levels - 1)];
        Tensor gain(model_.latent, 1, 1);
        for (int64_t c = 0; c < model_.latent; c++)
            gain.data[c] = std::pow(below[c], float(1 - part)) * std::pow(above[c], float(part));
        return gain;
    }

    Tensor read_hyper(SymbolReader &reader, int64_t rows, int64_t columns, double quality)
    {
        const auto [low, part] = level(quality);
        const auto &of_channel = model_.z_indexes[low + (part >= 0.5)];
        std::vector<uint8_t> indexes;
        for (uint8_t index : of_channel)
            indexes.insert(indexes.end(), size_t(rows * columns), index);
        const std::vector<int16_t> symbols = reader.read(indexes);
        Tensor z(model_.hyper, rows, columns);
        for (size_t i = 0; i < symbols.size(); i++) {
            if (std::abs(symbols[i]) > 127) // h_s is proven exact within this range
                bad_stream("a hyper-latent symbol outside +-127");
            z.data[i] = symbols[i];
        }
        return z;
    }

    void decode_group(SymbolReader &reader, size_t k, int64_t start, const Tensors &hyper, Tensor &y_hat)
    {
        const std::string context = "context_" + std::to_string(k);
        Tensors inputs = hyper;
        if (start > 0)
            inputs["y_prev"] = channels(y_hat, 0, start);
        Tensors out = graphs_.run(context + "_anchor", inputs);
        const Tensor features = out.at("features");
        decode_pass(reader, out, 0, start, y_hat);
        out = graphs_.run(context + "_nonanchor",
                          {{"features", features}, {"y_cur", channels(y_hat, start, start + model_.groups[k])}});
        decode_pass(reader, out, 1, start, y_hat);
    }

    static Tensor channels(const Tensor &from, int64_t start, int64_t stop)
    {
        Tensor some(stop - start, from.shape[2], from.shape[3]);
        const int64_t plane = from.shape[2] * from.shape[3];
        std::copy(from.data.begin() + start * plane, from.data.begin() + stop * plane, some.data.begin());
        return some;
    }

    // Reads the symbols of one parity and writes 16 s + m where they belong (docs/bundle.md, "Packing").
    static void decode_pass(SymbolReader &reader, const Tensors &out, int parity, int64_t start, Tensor &y_hat)
    {
        const Tensor &indexes = out.at("indexes"), &means = out.at("means");
        const std::vector<int16_t> symbols = reader.read({indexes.data.begin(), indexes.data.end()});
        const int64_t height = indexes.shape[2], half = indexes.shape[3];
        size_t i = 0;
        for (int64_t c = 0; c < indexes.shape[1]; c++)
            for (int64_t v = 0; v < height; v++) // even rows of the latent lie above odd rows
                for (int64_t u = 0; u < half; u++, i++) {
                    const int64_t odd = v >= height / 2, row = odd ? 2 * v - height + 1 : 2 * v;
                    const int64_t column = 2 * u + (odd != parity);
                    y_hat.data[((start + c) * height + row) * 2 * half + column] = 16.0f * symbols[i] + means.data[i];
                }
    }

    const Model &model_;
    Graphs &graphs_;
    int threads_;
};

// Writes part of a latent where a tile lies in the whole one.
inline void place(const Tensor &part, const Tile &tile, Tensor &whole)
{
    const int64_t height = part.shape[2], width = part.shape[3], top = tile.top / 16, left = tile.left / 16;
    for (int64_t c = 0; c < part.shape[1]; c++)
        for (int64_t row = 0; row < height; row++)
            std::copy_n(part.data.begin() + (c * height + row) * width, width,
                        whole.data.begin() + (c * whole.shape[2] + top + row) * whole.shape[3] + left);
}

// Rounds x_hat to the pixels of a rectangle of the picture, RGB.
inline void draw(const Tensor &x_hat, const Tile &at, uint32_t picture_width, std::vector<uint8_t> &pixels)
{
    for (int64_t c = 0; c < 3; c++)
        for (uint32_t row = 0; row < at.height; row++)
            for (uint32_t column = 0; column < at.width; column++) {
                const float x = x_hat.data[(c * x_hat.shape[2] + row) * x_hat.shape[3] + column];
                const float level = std::min(std::max(std::nearbyint(x * 255.0f), 0.0f), 255.0f);
                pixels[((size_t(at.top) + row) * picture_width + at.left + column) * 3 + c] = uint8_t(level);
            }
}

// The picture of a stream: RGB, height x width x 3.
inline std::vector<uint8_t> decode_stream(const Stream &stream, const Model &model, Graphs &graphs, int threads)
{
    std::string fingerprint;
    char digits[3];
    for (uint8_t byte : stream.fingerprint) {
        std::snprintf(digits, sizeof digits, "%02x", byte);
        fingerprint += digits;
    }
    if (fingerprint != model.fingerprint)
        bad_stream("it is of bundle " + fingerprint + ", not " + model.fingerprint);
    std::vector<uint8_t> pixels(size_t(stream.width) * stream.height * 3);
    TileDecoder decoder(model, graphs, threads);
    if (!stream.seamless) { // each tile is a picture of its own
        for (const Tile &tile : stream.tiles)
            draw(decoder.synthesize(decoder.latent(stream, tile), stream.quality), tile, stream.width, pixels);
        return pixels;
    }
    Tensor y_hat(model.latent, 4 * int64_t((stream.height + 63) / 64), 4 * int64_t((stream.width + 63) / 64));
    for (const Tile &tile : stream.tiles)
        place(decoder.latent(stream, tile), tile, y_hat);
    const Tile whole{0, 0, stream.width, stream.height, 0, 0};
    draw(decoder.synthesize(y_hat, stream.quality), whole, stream.width, pixels);
    return pixels;
}

} // namespace s2c_example

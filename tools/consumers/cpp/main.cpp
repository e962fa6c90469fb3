// Judge a raw clip with an exported TorchScript model, in C++ with libtorch.
//
//     consumer mini.ts raw/face0-0.00s/lips.rgb raw/face0-0.00s/audio.f32
//
// A .ts file is a program that libtorch runs: take it from people you trust. docs/consumers.md says what the figures
// mean, and how to build this.

#include <torch/script.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

const std::vector<std::string> kAspects{"fake", "visual", "audio", "sync"};
constexpr int64_t kWindow = 100, kHop = 50, kSamples = 640;  // windows of 4 s every 2 s; sound of a frame

std::vector<char> read(const std::string& path) {
    if (!std::filesystem::is_regular_file(path)) throw std::runtime_error("there is no file " + path);
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

// What a pattern finds in the metadata, empty for nothing. A program of yours would use its JSON library.
std::string find(const std::string& json, const std::string& pattern) {
    std::smatch found;
    return std::regex_search(json, found, std::regex(pattern)) ? found[1].str() : "";
}

// For 5 % false alarms or the next rate above, else for the highest; 0.5 where there is none.
double threshold(const std::string& json, const std::string& aspect) {
    const std::string all = find(json, R"re("thresholds": *\{((?:[^{}]|\{[^{}]*\})*)\})re");
    const std::string given = find(all, '"' + aspect + R"re(": *\{([^}]*))re");
    const std::regex pair(R"re("([^"]+)": *([0-9.eE+-]+))re");
    double best_rate = -1.0, best = 0.5;
    for (std::sregex_iterator at(given.begin(), given.end(), pair), end; at != end; ++at) {
        const double rate = std::stod((*at)[1]);
        if (rate >= 0.05 ? best_rate < 0.05 || rate < best_rate : rate > best_rate) {
            best_rate = rate;
            best = std::stod((*at)[2]);
        }
    }
    return best;
}

void judge(const std::string& model_path, const std::string& lips_path, const std::string& audio_path) {
    torch::jit::ExtraFilesMap extra{{"avfake.json", ""}};
    torch::jit::Module model = torch::jit::load(model_path, torch::kCPU, extra);
    const std::string& json = extra["avfake.json"];
    const std::string text = R"re(": *"([^"]*)")re";
    if (find(json, "\"schema" + text) != "avfake-export-1" || find(json, "\"part" + text) != "model")
        throw std::runtime_error("the model is no whole one that avfake exported by the schema avfake-export-1");
    std::vector<char> pictures = read(lips_path), samples = read(audio_path);
    const int64_t frames = pictures.size() / (96 * 96 * 3);
    if (!frames || pictures.size() % (96 * 96 * 3))
        throw std::runtime_error(lips_path + " holds no whole pictures of 96 x 96 x 3 bytes");
    const auto lips = torch::from_blob(pictures.data(), {frames, 96, 96, 3}, torch::kUInt8);
    const auto audio = torch::from_blob(samples.data(), {1, int64_t(samples.size() / 4)}, torch::kFloat32);
    if (int64_t(samples.size()) != 4 * kSamples * frames || !audio.abs().le(1).all().item<bool>())
        throw std::runtime_error(std::to_string(frames) + " pictures need " + std::to_string(kSamples * frames) +
                                 " float32 samples between -1 and 1");

    std::vector<double> thresholds;
    for (const auto& aspect : kAspects) thresholds.push_back(threshold(json, aspect));
    const torch::InferenceMode no_gradients;
    std::vector<torch::Tensor> parts;  // every picture is embedded once, although windows overlap
    for (const auto& some : lips.split(16)) parts.push_back(model.run_method("embed", some).toTensor());
    const auto embedded = torch::cat(parts).unsqueeze(0);
    const auto yes = torch::ones({1}, torch::kBool);  // there are lips, there is sound
    for (int64_t start = 0, end = 0; end < frames; start = std::min(start + kHop, frames - kWindow)) {
        end = std::min(start + kWindow, frames);
        const auto sound = audio.slice(1, start * kSamples, end * kSamples);
        const auto scores = model.run_method("score", embedded.slice(1, start, end), sound, yes, yes).toTuple();
        const auto& logits = scores->elements();  // fake, visual, audio, sync, then what is known of single frames
        const auto p_fake = model.run_method("p_fake", logits[0], logits[1], logits[2], logits[3], yes, yes).toTensor();
        std::printf("%6.2f - %6.2f s", start / 25.0, end / 25.0);
        for (size_t i = 0; i < kAspects.size(); ++i) {
            const double p = p_fake[0][i].item<double>();  // NaN: not taught
            const char* label = std::isnan(p) ? "not judged" : p >= thresholds[i] ? "fake" : "genuine";
            std::printf("  %s %.4f %s", kAspects[i].c_str(), p, label);
        }
        std::printf("\n");
    }
}

int main(int count, char** arguments) {
    if (count != 4) {
        std::fprintf(stderr, "usage: consumer MODEL.ts lips.rgb audio.f32\n");
        return 1;
    }
    std::string reason;
    try {
        judge(arguments[1], arguments[2], arguments[3]);
        return 0;
    } catch (const c10::Error& error) {
        reason = error.what_without_backtrace();
    } catch (const std::exception& error) {
        reason = error.what();
    }
    reason = reason.substr(0, reason.find('\n'));
    std::fprintf(stderr, "%s, %s, %s: %s\n", arguments[1], arguments[2], arguments[3], reason.c_str());
    return 1;
}

// Runs a fuzz target without libFuzzer: replay DIRECTORY... passes each file of the directories to the target, then its
// beginnings and copies with changed bytes. The changes are the same in every run. Fails if it finds no file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

constexpr size_t kBeginnings = 64;
constexpr size_t kChanges = 200;

// The target gets a copy of exactly this size, so that sanitizers see reads past its end.
void Run(const Input& input) {
  const Input copy(input);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

void RunWithChanges(const Input& input) {
  Run(input);
  const size_t step = std::max<size_t>(1, input.size() / kBeginnings);
  for (size_t size = 0; size < input.size(); size += step)
    Run(Input(input.begin(), input.begin() + static_cast<ptrdiff_t>(size)));
  if (input.empty()) return;
  std::mt19937 random(1);  // NOLINT: the same each time
  for (size_t i = 0; i < kChanges; ++i) {
    Input changed = input;
    for (size_t count = 1 + random() % 4; count > 0; --count) {
      const auto place = changed.begin() + static_cast<ptrdiff_t>(random() % changed.size());
      switch (random() % 3) {
        case 0:
          *place = static_cast<uint8_t>(random());
          break;
        case 1:
          changed.insert(place, static_cast<uint8_t>(random()));
          break;
        default:
          changed.insert(place, input.begin(),
                         input.begin() + static_cast<ptrdiff_t>(random() % std::min<size_t>(input.size(), 64)));
          break;
      }
    }
    Run(changed);
  }
}

int Replay(std::span<char*> directories) {
  std::vector<std::filesystem::path> files;
  for (const char* directory : directories) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    const Input input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    std::fprintf(stderr, "%s\n", path.filename().c_str());
    RunWithChanges(input);
  }
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Replay({argv + 1, static_cast<size_t>(argc - 1)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

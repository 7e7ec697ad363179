// Finds problems of a YAML text before nodes are built from it: too much nesting, too many values, and errors that
// yaml-cpp's nodes hide. Throws YAML::Exception for a text that is not valid, and bad_alloc. Any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cow::config {

// Limits of a document. An alias counts as often as the value that it stands for, because readers of nodes see copies.
inline constexpr size_t kMaxYamlDepth = 64;
inline constexpr size_t kMaxYamlValues = 100'000;          // keys, texts, lists and maps
inline constexpr size_t kMaxYamlBytes = size_t{4} << 20U;  // of all texts

struct YamlProblem {
  int line = 0;  // from 0
  int column = 0;
  std::string message;
};

struct YamlFindings {
  std::optional<YamlProblem> excess;  // more than the limits, or an alias of a value that contains it
  // yaml-cpp silently ignores all documents but the first. Not sought after an excess.
  std::optional<YamlProblem> second_document;
};

// The first byte that is not UTF-8, if any. yaml-cpp accepts such bytes but does not write them again.
std::optional<YamlProblem> FindInvalidUtf8(std::string_view text);

// Takes time and memory in proportion to the text.
YamlFindings InspectYaml(std::string_view text);

}  // namespace cow::config

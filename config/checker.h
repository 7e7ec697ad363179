// Walks the nodes of one YAML document into plain values and collects what is wrong, each with its place. Every YAML
// file of ours goes through it. Not thread-safe.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "config/config.h"

namespace cow::config {

// The node in a few words: for errors.
std::string Describe(const YAML::Node& node);

// Written in quotes: a text, whatever it looks like.
bool IsQuotedScalar(const YAML::Node& node);

class Checker {
 public:
  Checker(const std::string& file, std::vector<ConfigError>& errors) : file_(file), errors_(errors) {}

  struct Key {
    std::string name;
    std::function<void(const YAML::Node& value, const std::string& path)> read;
    bool removed = false;
  };

  // At a value; one that is missing has no place of its own, so its key's counts.
  void Add(const YAML::Node& value, std::string message);
  void Add(const YAML::Mark& mark, std::string message);

  // So far.
  [[nodiscard]] size_t Errors() const { return errors_.size(); }

  // Of the key that is being read, or was read last.
  [[nodiscard]] const YAML::Mark& LastKey() const { return last_key_; }

  // The entries of a map whose keys are plain names, each at most once. An empty section has none.
  void ReadEntries(const YAML::Node& node, const std::string& path,
                   const std::function<void(const YAML::Node& key, const YAML::Node& value)>& read);

  // A map whose keys are all among `keys`, each at most once. An empty section is one with defaults.
  void ReadMap(const YAML::Node& node, const std::string& path, const std::vector<Key>& keys,
               const std::string& what = "key");

  // Each entry of a list, which may be empty. `what`: what it is a list of, for errors.
  void ReadList(const YAML::Node& node, const std::string& path, const std::string& what,
                const std::function<void(const YAML::Node& entry, const std::string& path)>& read);

  // A key whose value `parse` understands.
  template <class Parse, class T>
  Key Value(std::string name, const char* expected, Parse parse, T& target) {
    return {std::move(name), [this, expected, parse, &target](const YAML::Node& value, const std::string& path) {
              constexpr bool kIsNumber = std::is_same_v<decltype(parse), decltype(&ParseMaxCpu)>;
              if (!value.IsScalar() || (kIsNumber && IsQuotedScalar(value))) {
                Add(value, path + ": expected " + expected + ", got " +
                               (value.IsScalar() ? "the text " + Describe(value) : Describe(value)));
                return;
              }
              const auto parsed = parse(value.Scalar());
              if (parsed) {
                target = *parsed;
              } else {
                Add(value, path + ": " + parsed.error());
              }
            }};
  }

  // A whole number from `low` to `high`.
  Key Count(std::string name, size_t low, size_t high, size_t& target);

  // A key of earlier versions: always an error, which says what to use instead. Not named among the valid ones.
  Key Removed(std::string name, std::string advice);

  Key Collector(const KnownCollector& known, std::map<std::string, CollectorConfig>& target);

 private:
  Key Option(const KnownOption& known, std::map<std::string, std::string>& target);

  const std::string& file_;
  std::vector<ConfigError>& errors_;
  YAML::Mark last_key_;
};

// Checks one text that holds one document, which `read` walks. The errors are in the order of their places.
void CheckDocument(std::string_view text, const std::string& file, std::vector<ConfigError>& errors,
                   const std::function<void(const YAML::Node& document, Checker& checker)>& read);

// The text of a file; nothing, and an error without a place, if it can't be read.
std::optional<std::string> ReadConfigText(const std::string& path, std::vector<ConfigError>& errors);

}  // namespace cow::config

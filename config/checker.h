// Reads the nodes of a YAML document into plain values and collects errors with their places. All our YAML files go
// through it. Not thread-safe.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"

namespace cow::config {

// Describes a node in errors.
std::string Describe(const YAML::Node& node);

// True if the scalar is quoted, and therefore a text.
bool IsQuotedScalar(const YAML::Node& node);

class Checker {
 public:
  static constexpr size_t kMaxErrors = 100;  // counts further ones, but does not list them

  Checker(const std::string& file, std::vector<ConfigError>& errors) : file_(file), errors_(errors) {}

  struct Key {
    std::string name;
    std::function<void(const YAML::Node& value, const std::string& path)> read;
    bool removed = false;
  };

  // Adds an error at a value, or at its key if the value is missing.
  void Add(const YAML::Node& value, std::string message);
  void Add(const YAML::Mark& mark, std::string message);

  // Number of errors so far, including those that are not listed.
  [[nodiscard]] size_t Errors() const { return count_; }

  // Place of the key that was read last.
  [[nodiscard]] const YAML::Mark& LastKey() const { return last_key_; }

  // Reads a map whose keys are plain names and unique. An empty section has no entries.
  void ReadEntries(const YAML::Node& node, const std::string& path,
                   const std::function<void(const YAML::Node& key, const YAML::Node& value)>& read);

  // Reads a map whose keys are among `keys` and unique. An empty section keeps the defaults.
  void ReadMap(const YAML::Node& node, const std::string& path, const std::vector<Key>& keys,
               const std::string& what = "key");

  // Reads the entries of a list, which may be empty. `what` names the entries in errors.
  void ReadList(const YAML::Node& node, const std::string& path, const std::string& what,
                const std::function<void(const YAML::Node& entry, const std::string& path)>& read);

  // Adds the error that `expected` was expected at a value.
  void AddExpected(const YAML::Node& value, const std::string& path, const std::string& expected);

  // A key with a map of `keys`. `what` names the keys in errors. `keys` must outlive the key.
  Key Section(std::string name, const std::vector<Key>& keys, const char* what = "key");

  // A key with a scalar value that `parse` reads. `expected` describes the value in errors.
  template <class Parse, class T>
  Key Value(std::string name, std::string expected, Parse parse, T& target) {
    return {std::move(name),
            [this, expected = std::move(expected), parse, &target](const YAML::Node& value, const std::string& path) {
              if (!value.IsScalar()) return AddExpected(value, path, expected);
              auto parsed = parse(value.Scalar());
              if (!parsed) return Add(value, path + ": " + parsed.error());
              target = std::move(*parsed);
            }};
  }

  // Like Value, but rejects quoted scalars.
  template <class Parse, class T>
  Key Number(std::string name, const char* expected, Parse parse, T& target) {
    Key key = Value(std::move(name), expected, parse, target);
    key.read = [this, expected, read = std::move(key.read)](const YAML::Node& value, const std::string& path) {
      if (!IsQuotedScalar(value)) return read(value, path);
      Add(value, path + ": expected " + expected + ", got the text " + Describe(value));
    };
    return key;
  }

  // A key with a list of texts. `what` names the entries and `expected` one entry in errors. `problem` returns what is
  // wrong with an entry, if anything.
  Key Texts(std::string name, std::string what, std::string expected,
            std::function<std::optional<std::string>(const std::string& text)> problem,
            std::vector<std::string>& target);

  // A whole number from `low` to `high`.
  Key Count(std::string name, size_t low, size_t high, size_t& target);

  // A key of earlier versions: always an error with advice. Errors do not list it among the valid keys.
  Key Removed(std::string name, std::string advice);

  Key Collector(const KnownCollector& known, std::map<std::string, CollectorConfig>& target);

 private:
  Key Option(const KnownOption& known, std::map<std::string, std::string>& target);

  const std::string& file_;
  std::vector<ConfigError>& errors_;
  size_t count_ = 0;
  YAML::Mark last_key_;
};

// Parses a text with one document and passes it to `read`. `errors` is empty before and sorted by place afterwards.
void CheckDocument(std::string_view text, const std::string& file, std::vector<ConfigError>& errors,
                   const std::function<void(const YAML::Node& document, Checker& checker)>& read);

// Reads a file. Adds an error without a place and returns nothing if that fails.
std::optional<std::string> ReadConfigText(const std::string& path, std::vector<ConfigError>& errors);

}  // namespace cow::config

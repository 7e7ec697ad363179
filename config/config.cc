#include "config/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace cow::config {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxFileBytes = size_t{1} << 20U;
constexpr milliseconds kMinInterval{10};
constexpr milliseconds kMaxInterval = std::chrono::hours{24};
constexpr milliseconds kMaxFullEvery = std::chrono::hours{24 * 30};

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (const char c : a) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (c == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

// What to put behind "unknown key": the nearest valid name, or all of them where none is near.
std::string Hint(std::string_view name, const std::vector<std::string>& valid) {
  constexpr size_t kMaxNameBytes = 64;
  if (valid.empty()) return "none is valid here";
  if (name.size() <= kMaxNameBytes) {
    const std::string* nearest = nullptr;
    size_t best = std::max<size_t>(2, name.size() / 2);  // farther ones are no help
    for (const std::string& candidate : valid) {
      const size_t distance = EditDistance(name, candidate);
      if (distance < best || (distance == best && nearest == nullptr)) {
        best = distance;
        nearest = &candidate;
      }
    }
    if (nearest != nullptr) return "did you mean \"" + *nearest + "\"?";
  }
  std::string all = "valid here: ";
  for (const std::string& candidate : valid) {
    if (&candidate != &valid.front()) all += ", ";
    all += candidate;
  }
  return all;
}

std::string Describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return Quoted(node.Scalar());
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a map";
    default:
      return "nothing";
  }
}

bool IsQuotedScalar(const YAML::Node& node) { return node.Tag() == "!"; }

Parsed<milliseconds> InRange(milliseconds value, std::string_view text, milliseconds low, milliseconds high,
                             const char* range) {
  if (value < low || value > high) return tl::unexpected(Quoted(text) + " is out of range: " + range);
  return value;
}

// Walks the nodes of one document and collects what is wrong.
class Checker {
 public:
  Checker(const std::string& file, std::vector<ConfigError>& errors) : file_(file), errors_(errors) {}

  struct Key {
    std::string name;
    std::function<void(const YAML::Node& value, const std::string& path)> read;
  };

  // At a value; one that is missing has no place of its own, so its key's counts.
  void Add(const YAML::Node& value, std::string message) {
    Add(value.IsNull() ? last_key_ : value.Mark(), std::move(message));
  }

  void Add(const YAML::Mark& mark, std::string message) {
    const bool known = !mark.is_null();
    errors_.push_back({file_, known ? mark.line + 1 : 1, known ? mark.column + 1 : 1, std::move(message)});
  }

  // A map whose keys are all among `keys`, each at most once. An empty section is one with defaults.
  void ReadMap(const YAML::Node& node, const std::string& path, const std::vector<Key>& keys,
               const std::string& what = "key") {
    if (node.IsNull()) return;
    if (!node.IsMap()) {
      Add(node, (path.empty() ? "the file" : path) + ": expected a map of keys, got " + Describe(node));
      return;
    }
    std::map<std::string, YAML::Mark> seen;
    for (const auto& entry : node) {
      const YAML::Node& key = entry.first;
      if (!key.IsScalar()) {
        Add(key.Mark(), Prefix(path) + "a key must be a plain name, got " + Describe(key));
        continue;
      }
      const std::string& name = key.Scalar();
      const auto [first, is_new] = seen.emplace(name, key.Mark());
      if (!is_new) {
        Add(key.Mark(), Prefix(path) + "duplicate key " + Quoted(name) + ", first given in line " +
                            std::to_string(first->second.line + 1));
        continue;
      }
      const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
      if (found == keys.end()) {
        std::vector<std::string> valid;
        valid.reserve(keys.size());
        for (const Key& k : keys) valid.push_back(k.name);
        Add(key.Mark(), Prefix(path) + "unknown " + what + " " + Quoted(name) + "; " + Hint(name, valid));
        continue;
      }
      last_key_ = key.Mark();
      found->read(entry.second, Child(path, name));
    }
  }

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
  Key Count(std::string name, size_t low, size_t high, size_t& target) {
    return {std::move(name), [this, low, high, &target](const YAML::Node& value, const std::string& path) {
              if (!value.IsScalar() || IsQuotedScalar(value)) {
                Add(value, path + ": expected a whole number, got " +
                               (value.IsScalar() ? "the text " + Describe(value) : Describe(value)));
                return;
              }
              const auto parsed = ParseInteger(value.Scalar());
              if (!parsed) {
                Add(value, path + ": " + parsed.error());
              } else if (*parsed < low || *parsed > high) {
                Add(value, path + ": " + Describe(value) + " is out of range: it must be from " + std::to_string(low) +
                               " to " + std::to_string(high));
              } else {
                target = *parsed;
              }
            }};
  }

  Key Collector(const KnownCollector& known, std::map<std::string, CollectorConfig>& target) {
    return {known.name, [this, &known, &target](const YAML::Node& value, const std::string& path) {
              if (value.IsMap()) {
                CollectorConfig& collector = target[known.name];
                std::vector<Key> options;
                for (const KnownOption& option : known.options) options.push_back(Option(option, collector.options));
                ReadMap(value, path, options, "option");
                return;
              }
              const std::string text = value.IsScalar() && !IsQuotedScalar(value) ? value.Scalar() : "";
              if (text != "true" && text != "false") {
                Add(value, path + ": expected true, false or a map of options, got " + Describe(value));
                return;
              }
              target[known.name].enabled = text == "true";
            }};
  }

 private:
  static std::string Child(const std::string& path, const std::string& name) {
    return path.empty() ? name : path + "." + name;
  }
  static std::string Prefix(const std::string& path) { return path.empty() ? "" : path + ": "; }

  Key Option(const KnownOption& known, std::map<std::string, std::string>& target) {
    return {known.name, [this, &known, &target](const YAML::Node& value, const std::string& path) {
              if (!value.IsScalar()) {
                Add(value, path + ": expected a single value, got " + Describe(value));
              } else if (const auto problem = known.problem(value.Scalar())) {
                Add(value, path + ": " + *problem);
              } else {
                target[known.name] = value.Scalar();
              }
            }};
  }

  const std::string& file_;
  std::vector<ConfigError>& errors_;
  YAML::Mark last_key_;
};

Parsed<uint64_t> ParseLedgerBytes(std::string_view text) {
  constexpr uint64_t kMaxLedgerBytes = uint64_t{1} << 40U;
  auto bytes = ParseSize(text);
  if (!bytes || *bytes <= kMaxLedgerBytes) return bytes;
  return tl::unexpected(Quoted(text) + " is out of range: it must be at most 1TiB");
}

void ReadDocument(const YAML::Node& document, const std::vector<KnownCollector>& known, Checker& checker,
                  Config& config) {
  constexpr size_t kMaxGroups = 100'000;
  constexpr size_t kMaxProcesses = size_t{1} << 22U;  // the kernel's limit of pid_max
  constexpr size_t kMaxLabelBytes = 4096;
  constexpr const char* kDuration = "a duration such as 10s";
  constexpr const char* kSize = "a size such as 256MiB";

  ScanConfig& scan = config.scan;
  const std::vector<Checker::Key> scan_keys = {
      checker.Value("interval", kDuration, &ParseScanInterval, scan.interval),
      checker.Value("max_cpu", "a number from 0 to 1", &ParseMaxCpu, scan.max_cpu),
      checker.Value("full_every", kDuration, &ParseFullEvery, scan.full_every),
      checker.Count("threads", 1, kMaxScanThreads, scan.threads),
      checker.Value("sample_above", kSize, &ParseSize, scan.sample_above_bytes)};

  LimitsConfig& limits = config.limits;
  const std::vector<Checker::Key> limits_keys = {
      checker.Count("max_groups", 1, kMaxGroups, limits.max_groups),
      checker.Count("max_processes", 1, kMaxProcesses, limits.max_processes),
      checker.Count("label_value_length", 1, kMaxLabelBytes, limits.label_value_length),
      checker.Value("ledger_bytes", kSize, &ParseLedgerBytes, limits.ledger_bytes)};

  std::vector<Checker::Key> collector_keys;
  collector_keys.reserve(known.size());
  for (const KnownCollector& collector : known) {
    collector_keys.push_back(checker.Collector(collector, config.collectors));
  }

  const auto section = [&checker](std::string name, const std::vector<Checker::Key>& keys, const char* what) {
    return Checker::Key{std::move(name), [&checker, &keys, what](const YAML::Node& value, const std::string& path) {
                          checker.ReadMap(value, path, keys, what);
                        }};
  };
  checker.ReadMap(document, "",
                  {section("scan", scan_keys, "key"), section("limits", limits_keys, "key"),
                   section("collectors", collector_keys, "collector")});
}

// Takes no notice of anything but where a document begins.
class DocumentStart final : public YAML::EventHandler {
 public:
  [[nodiscard]] const YAML::Mark& Place() const { return place_; }

  void OnDocumentStart(const YAML::Mark& mark) override { place_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

 private:
  YAML::Mark place_;
};

// YAML::LoadAll would do, but on some broken texts yaml-cpp 0.7 goes on delivering empty documents without end.
std::optional<YAML::Mark> FindSecondDocument(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  DocumentStart start;
  if (!parser.HandleNextDocument(start) || !parser.HandleNextDocument(start)) return std::nullopt;
  return start.Place();
}

struct FileText {
  std::string text;
  std::string problem;  // empty if the text was read
};

FileText ReadConfigFile(const std::string& path) {
  const auto failure = [] { return std::generic_category().message(errno); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return {"", failure()};
  FileText result;
  result.text.resize(kMaxFileBytes + 1);
  result.text.resize(std::fread(result.text.data(), 1, result.text.size(), file.get()));
  if (std::ferror(file.get()) != 0) {
    result.problem = failure();
  } else if (result.text.size() > kMaxFileBytes) {
    result.problem = "larger than 1 MiB";
  }
  return result;
}

}  // namespace

std::string ConfigError::ToString() const {
  std::string text = file + ":";
  if (line > 0) text += std::to_string(line) + ":" + std::to_string(column) + ":";
  return text + " " + message;
}

LoadResult ParseConfig(std::string_view text, const std::string& file, const std::vector<KnownCollector>& collectors) {
  LoadResult result;
  Checker checker(file, result.errors);
  try {
    ReadDocument(YAML::Load(std::string(text)), collectors, checker, result.config);
    if (const auto second = FindSecondDocument(std::string(text))) {
      checker.Add(*second, "a second document: one file holds one configuration");
    }
  } catch (const YAML::Exception& error) {
    checker.Add(error.mark, "not valid YAML: " + error.msg);
  }
  std::stable_sort(result.errors.begin(), result.errors.end(), [](const ConfigError& a, const ConfigError& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return result;
}

LoadResult LoadConfig(const std::string& path, const std::vector<KnownCollector>& collectors) {
  const FileText file = ReadConfigFile(path);
  if (file.problem.empty()) return ParseConfig(file.text, path, collectors);
  LoadResult result;
  result.errors.push_back({path, 0, 0, file.problem});
  return result;
}

Parsed<milliseconds> ParseScanInterval(std::string_view text) {
  return ParseDuration(text).and_then([text](milliseconds value) -> Parsed<milliseconds> {
    if (value.count() == 0) return value;
    return InRange(value, text, kMinInterval, kMaxInterval,
                   "it must be 0s (a pass at each scrape) or from 10ms to 24h");
  });
}

Parsed<double> ParseMaxCpu(std::string_view text) {
  return ParseNumber(text).and_then([text](double value) -> Parsed<double> {
    if (value >= 0 && value <= 1) return value;
    return tl::unexpected(Quoted(text) + " is out of range: it is a share of one CPU, from 0 (no limit) to 1");
  });
}

Parsed<milliseconds> ParseFullEvery(std::string_view text) {
  return ParseDuration(text).and_then([text](milliseconds value) {
    return InRange(value, text, milliseconds{0}, kMaxFullEvery, "it must be at most 30d");
  });
}

Parsed<size_t> ParseScanThreads(std::string_view text) {
  return ParseInteger(text).and_then([text](uint64_t value) -> Parsed<size_t> {
    if (value >= 1 && value <= kMaxScanThreads) return value;
    return tl::unexpected(Quoted(text) + " is out of range: it must be from 1 to " + std::to_string(kMaxScanThreads));
  });
}

}  // namespace cow::config

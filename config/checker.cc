#include "config/checker.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "config/hint.h"
#include "config/read_file.h"
#include "config/yaml_document.h"

namespace cow::config {
namespace {

std::string Child(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

// Describes a node without its text, which may be a misplaced secret.
std::string KindOf(const YAML::Node& node) { return node.IsScalar() ? "a text" : Describe(node); }

std::string Prefix(const std::string& path) { return path.empty() ? "" : path + ": "; }

}  // namespace

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

void Checker::Add(const YAML::Node& value, std::string message) {
  Add(value.IsNull() ? last_key_ : value.Mark(), std::move(message));
}

void Checker::Add(const YAML::Mark& mark, std::string message) {
  if (++count_ > kMaxErrors) return;
  const bool known = !mark.is_null();
  errors_.push_back({file_, known ? mark.line + 1 : 1, known ? mark.column + 1 : 1, std::move(message)});
}

void Checker::AddExpected(const YAML::Node& value, const std::string& path, const std::string& expected) {
  Add(value, path + ": expected " + expected + ", got " + Describe(value));
}

void Checker::ReadEntries(const YAML::Node& node, const std::string& path,
                          const std::function<void(const YAML::Node& key, const YAML::Node& value)>& read) {
  if (node.IsNull()) return;
  if (!node.IsMap()) {
    Add(node, (path.empty() ? "the file" : path) + ": expected a map of keys, got " + KindOf(node));
    return;
  }
  std::map<std::string, YAML::Mark> seen;
  for (const auto& entry : node) {
    const YAML::Node& key = entry.first;
    if (!key.IsScalar()) {
      Add(key.Mark(), Prefix(path) + "a key must be a plain name, got " + Describe(key));
      continue;
    }
    const auto [first, is_new] = seen.emplace(key.Scalar(), key.Mark());
    if (!is_new) {
      Add(key.Mark(), Prefix(path) + "duplicate key " + Quoted(key.Scalar()) + ", first given in line " +
                          std::to_string(first->second.line + 1));
      continue;
    }
    last_key_ = key.Mark();
    read(key, entry.second);
  }
}

void Checker::ReadMap(const YAML::Node& node, const std::string& path, const std::vector<Key>& keys,
                      const std::string& what) {
  ReadEntries(node, path, [&](const YAML::Node& key, const YAML::Node& value) {
    const std::string& name = key.Scalar();
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
    if (found != keys.end()) return found->read(value, Child(path, name));
    std::vector<std::string> valid;
    valid.reserve(keys.size());
    for (const Key& k : keys) {
      if (!k.removed) valid.push_back(k.name);
    }
    Add(key.Mark(), Prefix(path) + "unknown " + what + " " + Quoted(name) + "; " + Hint(name, valid));
  });
}

void Checker::ReadList(const YAML::Node& node, const std::string& path, const std::string& what,
                       const std::function<void(const YAML::Node& entry, const std::string& path)>& read) {
  if (node.IsNull()) return;
  if (!node.IsSequence()) {
    Add(node, path + ": expected a list of " + what + ", got " + KindOf(node));
    return;
  }
  size_t number = 0;
  for (const auto& entry : node) read(entry, path + "[" + std::to_string(number++) + "]");
}

Checker::Key Checker::Section(std::string name, const std::vector<Key>& keys, const char* what) {
  return {std::move(name),
          [this, &keys, what](const YAML::Node& value, const std::string& path) { ReadMap(value, path, keys, what); }};
}

Checker::Key Checker::Texts(std::string name, std::string what, std::string expected,
                            std::function<std::optional<std::string>(const std::string& text)> problem,
                            std::vector<std::string>& target) {
  return {std::move(name), [this, what = std::move(what), expected = std::move(expected), problem = std::move(problem),
                            &target](const YAML::Node& value, const std::string& path) {
            ReadList(value, path, what, [&](const YAML::Node& entry, const std::string& entry_path) {
              if (!entry.IsScalar() || entry.Scalar().empty()) return AddExpected(entry, entry_path, expected);
              if (const auto found = problem(entry.Scalar())) return Add(entry, entry_path + ": " + *found);
              target.push_back(entry.Scalar());
            });
          }};
}

Checker::Key Checker::Count(std::string name, size_t low, size_t high, size_t& target) {
  const auto parse = [low, high](std::string_view text) { return ParseIntegerIn(text, low, high); };
  return Number(std::move(name), "a whole number", parse, target);
}

Checker::Key Checker::Removed(std::string name, std::string advice) {
  return {std::move(name),
          [this, advice = std::move(advice)](const YAML::Node& /*value*/, const std::string& path) {
            Add(last_key_, path + ": " + advice);
          },
          true};
}

Checker::Key Checker::Collector(const KnownCollector& known, std::map<std::string, CollectorConfig>& target) {
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
              return AddExpected(value, path, "true, false or a map of options");
            }
            target[known.name].enabled = text == "true";
          }};
}

Checker::Key Checker::Option(const KnownOption& known, std::map<std::string, std::string>& target) {
  return {known.name, [this, &known, &target](const YAML::Node& value, const std::string& path) {
            if (!value.IsScalar()) return AddExpected(value, path, "a single value");
            if (const auto problem = known.problem(value.Scalar())) return Add(value, path + ": " + *problem);
            target[known.name] = value.Scalar();
          }};
}

void CheckDocument(std::string_view text, const std::string& file, std::vector<ConfigError>& errors,
                   const std::function<void(const YAML::Node& document, Checker& checker)>& read) {
  Checker checker(file, errors);
  const auto add = [&checker](const YamlProblem& problem) {
    YAML::Mark place;
    place.line = problem.line;
    place.column = problem.column;
    checker.Add(place, problem.message);
  };
  try {
    if (const auto invalid = FindInvalidUtf8(text)) return add(*invalid);
    const YamlFindings findings = InspectYaml(text);
    if (findings.excess) return add(*findings.excess);
    read(YAML::Load(std::string(text)), checker);
    if (findings.second_document) add(*findings.second_document);
  } catch (const YAML::Exception& error) {
    // yaml-cpp 0.8 appends the name of an undefined anchor after a colon. Hide it: it may be a password that begins
    // with *.
    checker.Add(error.mark, "not valid YAML: " + error.msg.substr(0, error.msg.find(':')));
  }
  std::stable_sort(errors.begin(), errors.end(), [](const ConfigError& a, const ConfigError& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  if (const size_t more = checker.Errors() - errors.size(); more != 0) {
    errors.push_back({file, 0, 0, std::to_string(more) + " more errors are not listed"});
  }
}

std::optional<std::string> ReadConfigText(const std::string& path, std::vector<ConfigError>& errors) {
  auto text = ReadTextFile(path);
  if (text) return std::move(*text);
  errors.push_back({path, 0, 0, text.error()});
  return std::nullopt;
}

}  // namespace cow::config

#include "config/yaml_document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>
#include <utility>
#include <vector>

#include "collectors/base/utf8.h"

namespace cow::config {
namespace {

// Ends the parsing.
struct Stop {
  YamlProblem problem;
};

[[noreturn]] void StopAt(const YAML::Mark& mark, std::string message) {
  throw Stop{{mark.line, mark.column, std::move(message)}};
}

// Counts the values of a document.
class Counter final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { AddText(mark, anchor, 0); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const Size& size = SizeOf(anchor);
    if (size.values == 0) StopAt(mark, "an alias of a value that contains it");
    Add(mark, size);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                const std::string& value) override {
    AddText(mark, anchor, value.size());
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Open(mark, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Open(mark, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Size {
    size_t values = 0;
    size_t bytes = 0;
  };
  struct Collection {
    YAML::anchor_t anchor;
    Size before;
  };

  // The size of what an anchor names. No values: it is not complete.
  Size& SizeOf(YAML::anchor_t anchor) {
    if (sizes_.size() <= anchor) sizes_.resize(anchor + 1);
    return sizes_[anchor];
  }

  void Add(const YAML::Mark& mark, const Size& size) {
    total_.values += size.values;
    total_.bytes += size.bytes;
    if (total_.values > kMaxYamlValues) {
      StopAt(mark, "more than " + std::to_string(kMaxYamlValues) + " values, each alias counted as what it stands for");
    }
    if (total_.bytes > kMaxYamlBytes) StopAt(mark, "aliases stand for more than 4 MiB of text");
  }
  void AddText(const YAML::Mark& mark, YAML::anchor_t anchor, size_t bytes) {
    Add(mark, {1, bytes});
    if (anchor != YAML::NullAnchor) SizeOf(anchor) = {1, bytes};
  }

  void Open(const YAML::Mark& mark, YAML::anchor_t anchor) {
    open_.push_back({anchor, total_});
    if (open_.size() > kMaxYamlDepth)
      StopAt(mark, "nested more than " + std::to_string(kMaxYamlDepth) + " levels deep");
    Add(mark, {1, 0});
  }
  void Close() {
    const auto [anchor, before] = open_.back();
    open_.pop_back();
    if (anchor != YAML::NullAnchor) {
      SizeOf(anchor) = {total_.values - before.values, total_.bytes - before.bytes};
    }
  }

  Size total_;
  std::vector<Size> sizes_;  // by anchor
  std::vector<Collection> open_;
};

// Stops at the start of a document.
class StopAtStart final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    StopAt(mark, "a second document: one file holds one configuration");
  }
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
};

// Parses the next document. Returns where the handler has stopped, if it has.
std::optional<YamlProblem> ParseNext(YAML::Parser& parser, YAML::EventHandler& handler) {
  try {
    parser.HandleNextDocument(handler);
    return std::nullopt;
  } catch (Stop& stop) {
    return std::move(stop.problem);
  }
}

}  // namespace

std::optional<YamlProblem> FindInvalidUtf8(std::string_view text) {
  YamlProblem problem{0, 0, "not valid UTF-8"};
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    if (length == 0) return problem;
    ++problem.column;
    if (text.front() == '\n') {
      ++problem.line;
      problem.column = 0;
    }
    text.remove_prefix(length);
  }
  return std::nullopt;
}

// YAML::LoadAll of yaml-cpp 0.7 delivers empty documents without end on some malformed texts.
YamlFindings InspectYaml(std::string_view text) {
  std::istringstream in{std::string(text)};
  YAML::Parser parser(in);
  Counter counter;
  YamlFindings findings;
  findings.excess = ParseNext(parser, counter);
  if (findings.excess) return findings;
  StopAtStart stop_at_start;
  findings.second_document = ParseNext(parser, stop_at_start);
  return findings;
}

}  // namespace cow::config

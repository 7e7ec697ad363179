#include "exporter/writers/formats.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>
#include <tuple>
#include <utility>

#include "collectors/base/utf8.h"
#include "exporter/explain/words.h"
#include "exporter/writers/advice.h"
#include "exporter/writers/profile.pb.h"
#include "exporter/writers/words.h"

namespace cow::exporter {
namespace {

using writers::Report;
using writers::Writer;
using Json = nlohmann::ordered_json;

constexpr size_t kMaxText = 4096;

uint64_t Bytes(const Report& report, const Writer& writer) { return writer.pages * report.page_bytes; }

Json WriterJson(const Report& report, const Writer& writer) {
  const symbols::Symbol& code = writer.code();
  Json json;
  json["function"] = code.function ? Json(*code.function) : Json();
  json["object"] = code.object;
  json["offset"] = "0x" + Hex(code.offset);
  json["build_id"] = code.build_id.empty() ? Json() : Json(code.build_id);
  if (writer.frames.size() > 1) json["for"] = CodeName(writer.frames.back());
  json["side"] = SideName(writer.side);
  if (report.judged) {
    json["mapping"] = MappingKindName(writer.mapping);
    json["pages"] = writer.pages;
    json["bytes"] = Bytes(report, writer);
  } else {
    json["records"] = writer.records;
  }
  return json;
}

// A frame of a collapsed stack can't contain the separator; the last blank of the line is before the weight.
std::string Folded(std::string name) {
  std::replace(name.begin(), name.end(), ';', ':');
  return name;
}

class ProfileBuilder {
 public:
  ProfileBuilder() { Text(""); }

  pprof::Profile Build(const Report& report, std::chrono::system_clock::time_point end) {
    AddType(*profile_.add_sample_type(), "breaks", "count");
    AddType(*profile_.add_sample_type(), "sharing_lost", "bytes");
    AddType(*profile_.mutable_period_type(), "breaks", "count");
    profile_.set_period(report.one_in);
    profile_.set_default_sample_type(Text("sharing_lost"));
    const auto duration = static_cast<int64_t>(report.seconds * 1e9);
    profile_.set_duration_nanos(duration);
    profile_.set_time_nanos(std::chrono::duration_cast<std::chrono::nanoseconds>(end.time_since_epoch()).count() -
                            duration);
    for (const Writer& writer : report.writers) {
      if (writer.pages > 0) AddSample(report, writer);
    }
    return std::move(profile_);
  }

 private:
  int64_t Text(std::string_view text) {
    // A string of proto3 must be UTF-8.
    const std::string valid = LabelValue(text, kMaxText);
    const auto [item, is_new] = texts_.try_emplace(valid, profile_.string_table_size());
    if (is_new) profile_.add_string_table(valid);
    return item->second;
  }

  void AddType(pprof::ValueType& type, std::string_view name, std::string_view unit) {
    type.set_type(Text(name));
    type.set_unit(Text(unit));
  }

  void AddSample(const Report& report, const Writer& writer) {
    pprof::Sample& sample = *profile_.add_sample();
    for (const symbols::Symbol& frame : writer.frames) sample.add_location_id(Location(frame));
    sample.add_value(static_cast<int64_t>(writer.pages));
    sample.add_value(static_cast<int64_t>(Bytes(report, writer)));
    AddLabel(sample, "side", SideName(writer.side));
    AddLabel(sample, "mapping", MappingKindName(writer.mapping));
  }

  void AddLabel(pprof::Sample& sample, std::string_view key, std::string_view value) {
    pprof::Label& label = *sample.add_label();
    label.set_key(Text(key));
    label.set_str(Text(value));
  }

  uint64_t Mapping(const symbols::Symbol& code) {
    const auto [item, is_new] = mappings_.try_emplace({code.object, code.build_id}, mappings_.size() + 1);
    if (is_new) {
      pprof::Mapping& mapping = *profile_.add_mapping();
      mapping.set_id(item->second);
      mapping.set_memory_limit(~uint64_t{0});
      mapping.set_filename(Text(code.object));
      mapping.set_build_id(Text(code.build_id));
      mapping.set_has_functions(true);
    }
    return item->second;
  }

  uint64_t Function(const std::string& name, const std::string& object) {
    const auto [item, is_new] = functions_.try_emplace({name, object}, functions_.size() + 1);
    if (is_new) {
      pprof::Function& function = *profile_.add_function();
      function.set_id(item->second);
      function.set_name(Text(name));
      function.set_system_name(Text(name));
      function.set_filename(Text(object));
    }
    return item->second;
  }

  // Code without a symbol is named by its object and offset.
  uint64_t Location(const symbols::Symbol& code) {
    const std::tuple key{code.object, code.build_id, code.offset, CodeName(code)};
    const auto [item, is_new] = locations_.try_emplace(key, locations_.size() + 1);
    if (is_new) {
      const uint64_t mapping = Mapping(code);
      const uint64_t function = Function(CodeName(code), code.object);
      pprof::Location& location = *profile_.add_location();
      location.set_id(item->second);
      location.set_mapping_id(mapping);
      location.set_address(code.offset);
      location.add_line()->set_function_id(function);
    }
    return item->second;
  }

  pprof::Profile profile_;
  std::map<std::string, int64_t> texts_;
  std::map<std::pair<std::string, std::string>, uint64_t> mappings_;
  std::map<std::pair<std::string, std::string>, uint64_t> functions_;
  std::map<std::tuple<std::string, std::string, uint64_t, std::string>, uint64_t> locations_;
};

}  // namespace

std::string WritersJson(const Report& report) {
  constexpr std::array<const char*, writers::kFreshKinds> kFreshNames{"first_touch",  "zero_page",      "file_mapped",
                                                                      "file_written", "shared_mapping", "not_judged"};
  Json json{{"pid", report.pid}, {"page_bytes", report.page_bytes}, {"summary", WritersSentence(report)}};
  json["seconds"] = report.seconds;
  json["one_in"] = report.one_in;
  json["judged"] = report.judged;
  json["broken_pages"] = report.judged ? Json(report.broken_pages) : Json();
  json["unexplained_pages"] = report.judged ? Json(report.unexplained_pages) : Json();
  json["records"] = report.records;
  json["attributed_records"] = report.attributed_records;
  json["repeated_records"] = report.repeated_records;
  for (size_t kind = 0; kind < kFreshNames.size(); ++kind) {
    json["fresh_records"][kFreshNames.at(kind)] = report.fresh_records.at(kind);
  }
  json["lost_records"] = report.lost_records;
  json["writers"] = Json::array();
  for (const Writer& writer : MergeCallers(report)) {
    Json line = WriterJson(report, writer);
    if (const Advice* advice = FindAdvice(writer.frames.back()); advice != nullptr && writer.pages > 0) {
      line["advice"] = std::string(advice->who) + ": " + std::string(advice->remedy);
    }
    json["writers"].push_back(std::move(line));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string WritersFolded(const Report& report) {
  std::map<std::string, uint64_t> lines;
  for (const Writer& writer : report.writers) {
    if (writer.pages == 0) continue;
    std::string stack(SideName(writer.side));
    for (size_t i = writer.frames.size(); i > 0; --i) {
      stack.append(";").append(Folded(CodeName(writer.frames[i - 1])));
    }
    lines[stack] += Bytes(report, writer);
  }
  std::string text;
  for (const auto& [stack, bytes] : lines) text += stack + " " + std::to_string(bytes) + "\n";
  return text;
}

std::string WritersPprof(const Report& report, std::chrono::system_clock::time_point end) {
  return ProfileBuilder().Build(report, end).SerializeAsString();
}

}  // namespace cow::exporter

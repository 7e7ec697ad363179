#include "exporter/explain/json.h"

#include <nlohmann/json.hpp>

#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

using explain::PageState;
using Json = nlohmann::ordered_json;

void AddSums(const explain::PageSums& sums, size_t page_bytes, Json& json) {
  const auto add = [&json, page_bytes](const char* name, uint64_t pages) { json[name] = pages * page_bytes; };
  add("resident_bytes", sums.Resident());
  add("shared_bytes", sums.Of(PageState::kShared));
  add("private_bytes", sums.Private());
  add("copied_bytes", sums.Copied());
  add("original_bytes", sums.Original());
  add("unshared_bytes", sums.Of(PageState::kUnshared));
  add("unattributed_bytes", sums.Of(PageState::kUnattributed));
  add("unknown_bytes", sums.Of(PageState::kUnknown));
  add("zero_bytes", sums.Of(PageState::kZero));
  add("huge_bytes", sums.huge);
  add("merged_bytes", sums.Of(PageState::kMerged));
  add("file_copied_bytes", sums.Of(PageState::kFileCopied));
  add("file_original_bytes", sums.Of(PageState::kFileOriginal));
  add("file_bytes", sums.Of(PageState::kFile));
  add("swapped_bytes", sums.Of(PageState::kSwapped));
  add("unresolved_bytes", sums.Of(PageState::kUnresolved));
}

Json MemberJson(const explain::MemberPortrait& member, size_t page_bytes, bool has_history) {
  Json json{{"pid", member.pid}};
  json["parent"] = member.parent == 0 ? Json() : Json(member.parent);
  json["comm"] = member.name;
  if (member.unread) {
    json["unread"] = member.unread_reason;
    json["unread_detail"] = member.unread_detail;
    return json;
  }
  AddSums(member.sums, page_bytes, json);
  json["broken_bytes"] = member.broken_pages * page_bytes;
  if (has_history) json["broken_since_last_look_bytes"] = member.broken_since_last_look * page_bytes;
  return json;
}

Json RunJson(const explain::PageRun& run) {
  Json json{{"start", "0x" + Hex(run.start)}, {"pages", run.pages}, {"state", PageStateName(run.state, run.huge)}};
  if (run.huge) json["huge"] = true;
  if (run.state == PageState::kShared || !run.shared_with.empty()) json["shared_with"] = run.shared_with;
  return json;
}

Json MappingJson(const explain::MappingPortrait& mapping, size_t page_bytes, bool frames_known) {
  const procfs::Vma& vma = mapping.mapping.vma;
  Json json{{"start", "0x" + Hex(vma.start)},
            {"end", "0x" + Hex(vma.end)},
            {"permissions", Permissions(vma)},
            {"path", vma.path},
            {"kind", MappingKindName(mapping.mapping.kind)}};
  AddSums(mapping.sums, page_bytes, json);
  json["exposure_bytes"] = frames_known ? Json(mapping.exposure_pages * page_bytes) : Json();
  if (!mapping.runs.empty()) {
    Json& runs = json["runs"] = Json::array();
    for (const explain::PageRun& run : mapping.runs) runs.push_back(RunJson(run));
  }
  return json;
}

}  // namespace

std::string PortraitJson(const explain::Portrait& portrait, bool indented) {
  const size_t page_bytes = portrait.page_bytes;
  const auto known = [&portrait, page_bytes](uint64_t pages) {
    return portrait.frames_known ? Json(pages * page_bytes) : Json();
  };
  Json json{{"pid", portrait.pid}, {"time", TimeText(portrait.time)}, {"page_bytes", page_bytes}};
  json["summary"] = Summary(portrait);
  json["exposure_bytes"] = known(portrait.exposure_pages);
  json["broken_bytes"] = portrait.marks_known ? known(portrait.BrokenPages()) : Json();
  json["unattributed_bytes"] = known(portrait.unattributed_pages);
  json["unseen_bytes"] = known(portrait.unseen_pages);
  if (portrait.since_last_look) {
    json["broken_since_last_look_bytes"] = portrait.since_last_look->pages * page_bytes;
  }
  json["limits"] = Limits(portrait);
  json["family"] = Json::array();
  for (const auto& member : portrait.members) {
    json["family"].push_back(MemberJson(member, page_bytes, portrait.since_last_look.has_value()));
  }
  json["mappings"] = Json::array();
  for (const auto& mapping : portrait.mappings) {
    json["mappings"].push_back(MappingJson(mapping, page_bytes, portrait.frames_known));
  }
  return json.dump(indented ? 2 : -1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string ErrorJson(const std::string& message) {
  return Json{{"error", message}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cow::exporter

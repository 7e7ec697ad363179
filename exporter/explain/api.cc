#include "exporter/explain/api.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "collectors/base/cpu_clock.h"
#include "exporter/explain/json.h"

namespace cow::exporter {
namespace {

using Json = nlohmann::ordered_json;
using Kind = explain::Failure::Kind;

constexpr unsigned kForbidden = 403;
constexpr unsigned kNotFound = 404;
constexpr unsigned kUnprocessable = 422;
constexpr unsigned kInternalError = 500;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

ApiReply Problem(unsigned status, const std::string& message) { return {status, ErrorJson(message)}; }

unsigned StatusOf(Kind kind) {
  switch (kind) {
    case Kind::kNoProcess:
    case Kind::kEnded:
      return kNotFound;
    case Kind::kDenied:
      return kForbidden;
    case Kind::kNoMemory:
    case Kind::kThread:
    case Kind::kNoMapping:
      return kUnprocessable;
    case Kind::kStopped:
      return kUnavailable;
    default:
      return kInternalError;
  }
}

Json Optional(const std::optional<uint64_t>& bytes) { return bytes ? Json(*bytes) : Json(); }

}  // namespace

ApiReply DescribeFamilies(const std::vector<collectors::FamilySummary>& families) {
  Json list = Json::array();
  for (const collectors::FamilySummary& family : families) {
    list.push_back({{"pid", family.root},
                    {"comm", family.comm},
                    {"group", family.group},
                    {"processes", family.processes},
                    {"shared_bytes", Optional(family.shared_bytes)},
                    {"private_bytes", Optional(family.private_bytes)},
                    {"exposure_bytes", Optional(family.exposure_bytes)}});
  }
  return {200, Dump({{"families", std::move(list)}})};
}

Api::Api(procfs::Root root) : budget_(std::chrono::steady_clock::now()), explainer_(std::move(root)) {}

ApiReply Api::Explain(const ExplainQuery& query) {
  const auto wait = std::chrono::ceil<std::chrono::seconds>(budget_.Wait(std::chrono::steady_clock::now()));
  if (wait.count() > 0) {
    return Problem(kUnavailable,
                   "the CPU budget for explaining is used up: retry in " + std::to_string(wait.count()) + " s");
  }
  explain::LookOptions look;
  look.pages.wanted = query.pages;
  look.pages.address = query.mapping;
  look.may_go_on = [this] { return !stopped_.load(); };
  const std::chrono::nanoseconds before = ThreadCpuTime();
  const auto portrait = explainer_.Look(query.pid, look);
  budget_.Spend(ThreadCpuTime() - before);
  if (!portrait) return Problem(StatusOf(portrait.error().kind), portrait.error().message);
  return {200, PortraitJson(*portrait, false)};
}

}  // namespace cow::exporter

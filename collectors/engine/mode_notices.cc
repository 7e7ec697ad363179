#include "collectors/engine/mode_notices.h"

namespace cow::collectors {
namespace {

using memory::Mode;

// Group names come from outside and are unbounded. At this many the record is cleared, and some notices repeat.
constexpr size_t kMaxTold = 4096;
// Bounds the notices if each reason differs, for example by a pid.
constexpr size_t kMaxToldFailures = 64;

std::string WhyNoFrames(const memory::Member& member) {
  switch (member.access.mode) {
    case Mode::kNoKpage:
      return "kpageflags and kpagecount can't be read: they need uid 0 or CAP_DAC_READ_SEARCH, and a whole procfs";
    case Mode::kNoFrames:
      return "page frame numbers are hidden: they need CAP_SYS_ADMIN in the initial user namespace";
    default:
      return member.access.unread ? member.access.unread->ToString() : std::string();
  }
}

}  // namespace

void ModeNotices::Note(const std::string& group, const memory::Family& family) {
  for (const auto& member : family.members) {
    if (member->access.mode != Mode::kFull) Add(group, member->access.mode, member->process->pid, WhyNoFrames(*member));
  }
}

void ModeNotices::NoteNameless(const std::string& group, size_t processes) {
  if (processes != 0) Add(group, Mode::kNone, 0, "stat itself is denied: procfs hides processes (hidepid)");
}

void ModeNotices::Add(const std::string& group, Mode mode, pid_t pid, std::string reason) {
  if (told_.size() >= kMaxTold) told_.clear();
  const bool of_all_groups = mode == Mode::kNoKpage || mode == Mode::kNoFrames;
  if (!told_.emplace(of_all_groups ? std::string() : group, mode).second) return;
  const auto [notice, is_first] = fresh_.try_emplace(mode);
  ++notice->second.groups;
  if (!is_first) return;
  notice->second.mode = kModeNames.at(static_cast<size_t>(mode));
  notice->second.group = group;
  notice->second.pid = pid;
  notice->second.reason = std::move(reason);
}

void ModeNotices::NoteUnreadKey(const std::string& group, pid_t pid, const std::string& key) {
  if (!told_keys_.insert(key).second) return;
  fresh_keys_.push_back({"", 1, group, pid, "a rule of groups asks for " + key + ", which can't be read: no match"});
}

void ModeNotices::NoteFailure(std::string_view collector, const std::string& reason) {
  if (told_failures_.size() >= kMaxToldFailures || !told_failures_.emplace(collector, reason).second) return;
  ModeNotice& notice = fresh_keys_.emplace_back();
  notice.collector = collector;
  notice.reason = reason;
}

void ModeNotices::NoteLongLook(const std::string& group, pid_t pid, double intervals) {
  if (told_long_looks_.size() >= kMaxTold) told_long_looks_.clear();
  if (!told_long_looks_.insert(group).second) return;
  ModeNotice& notice = fresh_keys_.emplace_back();
  notice.group = group;
  notice.pid = pid;
  notice.intervals = intervals;
}

void ModeNotices::NoteLacking(std::string_view feature, std::string reason) {
  ModeNotice& notice = fresh_keys_.emplace_back();
  notice.feature = feature;
  notice.reason = std::move(reason);
}

std::vector<ModeNotice> ModeNotices::Take() {
  std::vector<ModeNotice> notices = std::exchange(fresh_keys_, {});
  for (auto& [mode, notice] : fresh_) notices.push_back(std::move(notice));
  fresh_.clear();
  return notices;
}

}  // namespace cow::collectors

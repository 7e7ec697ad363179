// How the Symbolizer talks to its process.
#include <algorithm>
#include <iterator>
#include <utility>

#include "collectors/procfs/mapped_file.h"
#include "collectors/procfs/status.h"
#include "collectors/symbols/symbolizer.h"

namespace cow::symbols {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxLayouts = 8;
constexpr size_t kMaxPerfMaps = 256;  // also of processes without one
constexpr size_t kMaxWishes = 8;      // for one answer

// The path of a separate debug file in any root; empty if the build ID is too short or too long.
std::string DebugPath(std::string_view build_id) {
  constexpr size_t kMinBytes = 2;
  constexpr size_t kMaxBytes = 64;
  if (build_id.size() < kMinBytes || build_id.size() > kMaxBytes) return {};
  const std::string digits = Hexadecimal(build_id);
  return "/usr/lib/debug/.build-id/" + digits.substr(0, 2) + "/" + digits.substr(2) + ".debug";
}

}  // namespace

std::string Hexadecimal(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char each : bytes) {
    const auto byte = static_cast<unsigned char>(each);
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

bool Symbolizer::Start() {
  if (channel_.valid()) return true;
  constexpr std::chrono::minutes kRefill{1};
  const auto now = Clock::now();
  const auto minutes = static_cast<size_t>((now - refilled_at_) / kRefill);
  if (minutes > 0) {
    restarts_left_ = std::min(options_.restarts, restarts_left_ + minutes);
    refilled_at_ = now;
  }
  if (restarts_left_ == 0) return false;
  --restarts_left_;
  channel_ = keeper_.Replace();
  Message ready;
  if (channel_.valid() && Receive(channel_, ready, now + options_.patience) == Transfer::kDone &&
      ready.head.type == MessageType::kReady) {
    return true;
  }
  Lose();
  return false;
}

void Symbolizer::Lose() {
  channel_ = procfs::FileDescriptor();
  files_.clear();
  layouts_.clear();
  perf_maps_.clear();
  ++counts_.restarts;
}

std::optional<Message> Symbolizer::Ask(const Prepare& prepare, std::string_view bytes, MessageType expected,
                                       bool& is_fatal) {
  constexpr int kAttempts = 2;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (!Start()) {
      ++counts_.unanswered;
      return std::nullopt;
    }
    const auto question = prepare();
    if (!question && channel_.valid()) return std::nullopt;
    if (!question) continue;
    Message answer;
    const Transfer result = Exchange(*question, bytes, expected, answer);
    if (result == Transfer::kDone) return answer;
    Lose();
    if (result == Transfer::kLate) break;
  }
  is_fatal = true;
  return std::nullopt;
}

Transfer Symbolizer::Exchange(const MessageHead& question, std::string_view bytes, MessageType expected,
                              Message& answer) {
  const auto deadline = Clock::now() + options_.patience;
  const Transfer sent = Send(channel_, question, bytes, -1, deadline);
  if (sent != Transfer::kDone) return sent;
  for (size_t wishes = 0; wishes <= kMaxWishes; ++wishes) {
    const Transfer received = Receive(channel_, answer, deadline);
    if (received != Transfer::kDone || answer.head.type == expected) return received;
    if (answer.head.type != MessageType::kWantDebugFile || !AnswerWish(answer)) return Transfer::kClosed;
  }
  return Transfer::kClosed;
}

bool Symbolizer::AnswerWish(const Message& wish) {
  const auto file = std::find_if(files_.begin(), files_.end(),
                                 [&wish](const auto& each) { return each->number == wish.head.number; });
  procfs::FileDescriptor debug;
  if (file != files_.end()) debug = FindDebugFile(**file, wish.bytes);
  const MessageHead head{MessageType::kDebugFile, NameStatus::kNoFile, wish.head.number, 0};
  return Send(channel_, head, {}, debug.get(), Clock::now() + options_.patience) == Transfer::kDone;
}

// The parsing process compares the build ID.
procfs::FileDescriptor Symbolizer::FindDebugFile(const CodeFile& file, std::string_view build_id) const {
  const std::string path = DebugPath(build_id);
  if (path.empty()) return {};
  auto found = procfs::OpenBelowRoot(root_, file.seen_in, path);
  if (!found) found = procfs::OpenRegular(root_, path);
  return found ? std::move(found->descriptor) : procfs::FileDescriptor();
}

bool Symbolizer::SendFile(const std::shared_ptr<const CodeFile>& file) {
  const auto known = std::find(files_.begin(), files_.end(), file);
  if (known != files_.end()) {
    files_.splice(files_.begin(), files_, known);
    return true;
  }
  if (files_.size() >= options_.files) {
    const uint64_t oldest = files_.back()->number;
    files_.pop_back();
    layouts_.clear();  // the process forgets them too
    if (!Tell({MessageType::kForget, NameStatus::kNoFile, oldest, 0})) return false;
  }
  if (!Tell({MessageType::kFile, NameStatus::kNoFile, file->number, 0}, {}, file->descriptor.get())) return false;
  files_.push_front(file);
  return true;
}

std::optional<uint64_t> Symbolizer::SendLayout(const CodeMaps::Mappings& mappings) {
  const auto known = std::find_if(layouts_.begin(), layouts_.end(),
                                  [&mappings](const Layout& each) { return each.mappings == mappings; });
  if (known != layouts_.end()) {
    layouts_.splice(layouts_.begin(), layouts_, known);
    return known->number;
  }
  std::string bytes;
  std::set<uint64_t> files;
  constexpr size_t kMaxEntries = 1024;
  for (const Mapping& each : *mappings) {
    if (each.file == nullptr || !each.file->descriptor.valid() || hopeless_.contains(each.file->number)) continue;
    if (bytes.size() >= kMaxEntries * sizeof(LayoutEntry)) break;
    // More files would push out the first ones.
    if (!files.contains(each.file->number) && files.size() >= options_.files) continue;
    files.insert(each.file->number);
    if (!SendFile(each.file)) return std::nullopt;
    const LayoutEntry entry{each.file->number, each.start, each.end, each.file_offset};
    bytes.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  }
  if (layouts_.size() >= kMaxLayouts) {
    const uint64_t oldest = layouts_.back().number;
    layouts_.pop_back();
    if (!Tell({MessageType::kForgetLayout, NameStatus::kNoFile, oldest, 0})) return std::nullopt;
  }
  const uint64_t number = next_number_++;
  if (!Tell({MessageType::kLayout, NameStatus::kNoFile, number, 0}, bytes)) return std::nullopt;
  layouts_.push_front({number, mappings});
  return number;
}

std::optional<uint64_t> Symbolizer::SendPerfMap(pid_t pid) {
  const auto now = Clock::now();
  const auto known = perf_maps_.find(pid);
  if (known == perf_maps_.end() && perf_maps_.size() >= kMaxPerfMaps) {
    const auto oldest = std::min_element(perf_maps_.begin(), perf_maps_.end(), [](const auto& a, const auto& b) {
      return a.second.read_at < b.second.read_at;
    });
    if (!ForgetPerfMap(oldest->second)) return std::nullopt;
    perf_maps_.erase(oldest);
  }
  PerfMapFile& map = perf_maps_[pid];
  const auto number_of = [](const PerfMapFile& each) {
    return each.number == 0 ? std::nullopt : std::optional(each.number);
  };
  if (map.read_at != Clock::time_point() && now - map.read_at < options_.reread_after) return number_of(map);
  map.read_at = now;
  const auto status = procfs::ReadStatus(root_, pid);
  if (!status) return number_of(map);  // it has ended; its map may have been read before
  const pid_t named = status->innermost_pid > 0 ? status->innermost_pid : pid;
  const auto file = procfs::OpenBelowRoot(root_, pid, "/tmp/perf-" + std::to_string(named) + ".map");
  // /tmp is everyone's: another user must not name this process' code.
  const bool is_own = file && (file->identity.owner == status->effective_uid || file->identity.owner == 0);
  if (is_own && map.number != 0 && map.identity == file->identity) return map.number;
  if (!ForgetPerfMap(map) || !is_own) return std::nullopt;
  const uint64_t number = next_number_++;
  if (!Tell({MessageType::kMap, NameStatus::kNoFile, number, 0}, {}, file->descriptor.get())) return std::nullopt;
  map.number = number;
  map.identity = file->identity;
  return number;
}

// `map` is invalid if this returns false, as the process is lost.
bool Symbolizer::ForgetPerfMap(PerfMapFile& map) {
  const uint64_t number = std::exchange(map.number, 0);
  return number == 0 || Tell({MessageType::kForgetMap, NameStatus::kNoFile, number, 0});
}

bool Symbolizer::Tell(const MessageHead& head, std::string_view bytes, int descriptor) {
  if (Send(channel_, head, bytes, descriptor, Clock::now() + options_.patience) == Transfer::kDone) return true;
  Lose();
  return false;
}

}  // namespace cow::symbols

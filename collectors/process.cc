// Collector `process`: publishes the top processes one by one, to show which process of a group is the expensive one. A
// process that leaves the top is held for a while, so that its series does not come and go with each pass. The number
// of series is bounded. Sums are in base pages.
#include <prometheus/metric_family.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/base/utf8.h"
#include "collectors/registry.h"

namespace cow::collectors {
namespace {

using memory::MemberIndex;
using prometheus::MetricType;
using SteadyTime = std::chrono::steady_clock::time_point;

// Including held processes, at most kMostHeld × top are published.
constexpr size_t kMostHeld = 4;
// The kernel's names have 15 bytes; escapes need more.
constexpr size_t kCommBytes = 64;

constexpr MetricLabel kPid{"pid", {}, "as the exporter's /proc shows it"};
constexpr MetricLabel kComm{"comm", {}, "the process' name"};
constexpr std::string_view kProcessAbsent =
    "For processes that are not among the first `top` by the option `by`; such a process stays for `hold`, up to four "
    "times `top` processes in total. Also if the value is 0, and if the page table or the frames can't be read.";

constexpr Metric kProcessExposureBytes{
    .name = "cow_process_exposure_bytes",
    .unit = "bytes",
    .help =
        "Anonymous memory that the process shares with relatives, and would copy if it wrote to all of it. Only for "
        "the top processes.",
    .labels = {{kPid, kComm}},
    .source = "Frames in the process' page table that a relative maps too.",
    .absent = kProcessAbsent,
    .query = "topk(5, cow_process_exposure_bytes)",
};
constexpr Metric kPrivateBytes{
    .name = "cow_process_private_bytes",
    .unit = "bytes",
    .help =
        "Anonymous memory that only this process maps, and that would be freed if it ended. Only for the top "
        "processes.",
    .labels = {{kPid, kComm}},
    .source = "Frames in the process' page table that no other process maps.",
    .absent = kProcessAbsent,
};
constexpr Metric kProcessBreaksTotal{
    .name = "cow_process_breaks_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help =
        "Pages shared by fork that the process replaced by its own page while this collector was on. Only for the top "
        "processes.",
    .labels = {{kPid, kComm}},
    .source = "The breaks of cow_breaks_total for which the side is known.",
    .absent = kProcessAbsent,
    .query = "topk(5, rate(cow_process_breaks_total[5m]))",
};

struct Watched {
  pid_t pid = 0;
  std::string comm;
  std::string group;
  uint64_t exposure_pages = 0;
  uint64_t private_pages = 0;
  uint64_t breaks = 0;
  bool living = false;
  std::optional<SteadyTime> in_top_at;
};

class TopProcesses : public CollectorWithHooks {
 public:
  TopProcesses(procfs::PageGeometry geometry, const ProcessOptions& options)
      : CollectorWithHooks(geometry), options_(options) {}

  void SetOptions(const CollectorOptions& options) override { options_ = options.process; }

  memory::Needs needs() const override {
    memory::Needs needs;
    needs.member_sums = true;
    return needs;
  }

  void OnFamily(const memory::FamilyReport& report, const Tally& tally) override {
    const memory::Family& family = *report.family;
    ForEachOf(family.id, [](Watched& watched) { watched.living = false; });
    for (size_t i = 0; i < family.members.size() && i < report.member_sums.size(); ++i) {
      const memory::Member& member = *family.members[i];
      if (member.access.unread || !report.frames_known) continue;
      Watched& watched = watched_[{family.id, member.slot}];
      watched.pid = member.process->pid;
      watched.comm = LabelValue(member.process->stat.comm, kCommBytes);
      watched.group = tally.group;
      const memory::MemberSums& sums = report.member_sums[i];
      watched.exposure_pages = sums.shared_pages;
      watched.private_pages = sums.anon_pages - std::min(sums.anon_pages, sums.shared_pages + sums.ksm_pages);
      watched.breaks = member.life.broken_pages;
      watched.living = true;
    }
  }

  void OnPass(const FamilyPass& pass, const Tally& tally) override {
    const uint64_t family = pass.family->id;
    if (tally.group.empty()) return OnFamilyGone(family);  // left out of what is exported
    ForEachOf(family, [&tally](Watched& watched) { watched.group = tally.group; });
  }

  void OnEnd(const memory::EndReport& report, const Tally& /*tally*/) override {
    watched_.erase({report.family->id, report.member->slot});
  }

  void OnFamilyGone(uint64_t family_id) override {
    watched_.erase(watched_.lower_bound({family_id, MemberIndex()}),
                   watched_.lower_bound({family_id + 1, MemberIndex()}));
  }

  void OnPassEnd() override {
    const SteadyTime now = std::chrono::steady_clock::now();
    std::vector<Watched*> ranked;
    for (auto& [key, watched] : watched_) {
      if (watched.living && Rank(watched) != 0) ranked.push_back(&watched);
    }
    std::sort(ranked.begin(), ranked.end(), [this](const Watched* a, const Watched* b) {
      return std::pair(Rank(*b), a->pid) < std::pair(Rank(*a), b->pid);
    });
    for (size_t i = 0; i < std::min(ranked.size(), options_.top); ++i) ranked[i]->in_top_at = now;
    published_.clear();
    for (size_t i = 0; i < ranked.size(); ++i) {
      const std::optional<SteadyTime>& in_top_at = ranked[i]->in_top_at;
      if (i < options_.top || (in_top_at && now - *in_top_at < options_.hold)) published_.push_back(*ranked[i]);
    }
    // Keep the held processes that left the top last.
    if (published_.size() > options_.top) {
      std::stable_sort(published_.begin() + static_cast<std::ptrdiff_t>(options_.top), published_.end(),
                       [](const Watched& a, const Watched& b) { return a.in_top_at > b.in_top_at; });
    }
    if (published_.size() > kMostHeld * options_.top) published_.resize(kMostHeld * options_.top);
  }

  void Publish(std::span<const GroupSums> /*groups*/, MetricWriter& writer) const override {
    writer.Begin(kProcessExposureBytes);
    for (const Watched& watched : published_) Add(writer, watched, Bytes(watched.exposure_pages));
    writer.Begin(kPrivateBytes);
    for (const Watched& watched : published_) Add(writer, watched, Bytes(watched.private_pages));
    writer.Begin(kProcessBreaksTotal);
    for (const Watched& watched : published_) Add(writer, watched, static_cast<double>(watched.breaks));
  }

 private:
  template <class Call>
  void ForEachOf(uint64_t family_id, Call&& call) {
    const auto end = watched_.lower_bound({family_id + 1, MemberIndex()});
    for (auto each = watched_.lower_bound({family_id, MemberIndex()}); each != end; ++each) call(each->second);
  }

  uint64_t Rank(const Watched& watched) const {
    constexpr std::array kRanks{&Watched::exposure_pages, &Watched::private_pages, &Watched::breaks};
    return watched.*kRanks.at(static_cast<size_t>(options_.by));
  }

  static void Add(MetricWriter& writer, const Watched& watched, double value) {
    writer.AddFor(watched.group, {std::to_string(watched.pid), watched.comm}, value);
  }

  ProcessOptions options_;
  std::map<std::pair<uint64_t, MemberIndex>, Watched> watched_;  // by family and slot: every process that was read
  std::vector<Watched> published_;                               // as of the last completed pass
};

}  // namespace

std::unique_ptr<Collector> MakeProcess(const CollectorContext& context) {
  return std::make_unique<TopProcesses>(context.geometry, context.options.process);
}

}  // namespace cow::collectors

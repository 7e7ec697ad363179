#include "tests/live/live.h"

#include <fcntl.h>
#include <prometheus/metric_family.h>
#include <sys/mman.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "tests/support/pass_control.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kGuard = uint64_t{1} << 58;
constexpr uint64_t kFile = uint64_t{1} << 61;
constexpr uint64_t kSoftDirty = uint64_t{1} << 55;  // set for holes too, if the kernel has it
constexpr uint64_t kFrameMask = (uint64_t{1} << 55) - 1;

std::string ProcPath(pid_t pid, std::string_view file) {
  return "/proc/" + std::to_string(pid) + "/" + std::string(file);
}

// False if the line of maps or smaps does not begin a mapping.
bool ParseArea(const std::string& line, Area& area) {
  const char* text = line.c_str();
  const char* end = text + line.size();
  const auto start_end = std::from_chars(text, end, area.start, 16);
  if (start_end.ec != std::errc() || start_end.ptr == end || *start_end.ptr != '-') return false;
  const auto end_end = std::from_chars(start_end.ptr + 1, end, area.end, 16);
  if (end_end.ec != std::errc() || end - end_end.ptr < 5 || *end_end.ptr != ' ') return false;
  area.permissions.assign(end_end.ptr + 1, 4);
  return true;
}

}  // namespace

uint64_t PageBytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }
uint64_t HugePageBytes() { return PageBytes() / sizeof(uint64_t) * PageBytes(); }

std::string Unshared(std::string_view cause) { return "cow_unshared_bytes_total{cause=" + std::string(cause) + "}"; }

Sample::Sample(const std::vector<prometheus::MetricFamily>& families, std::string_view group) {
  for (const prometheus::MetricFamily& family : families) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      std::map<std::string, std::string> labels;
      bool other_group = false;
      for (const auto& label : metric.label) {
        if (label.name != "group") labels[label.name] = label.value;
        other_group = other_group || (label.name == "group" && label.value != group);
      }
      if (other_group) continue;
      std::string suffix;
      for (const auto& [name, value] : labels)
        suffix.append(suffix.empty() ? "{" : ",").append(name).append("=").append(value);
      if (!suffix.empty()) suffix += '}';
      switch (family.type) {
        case prometheus::MetricType::Counter:
          values_[family.name + suffix] = metric.counter.value;
          break;
        case prometheus::MetricType::Histogram:
          values_[family.name + "_count" + suffix] = static_cast<double>(metric.histogram.sample_count);
          values_[family.name + "_sum" + suffix] = metric.histogram.sample_sum;
          break;
        default:
          values_[family.name + suffix] = metric.gauge.value;
      }
    }
  }
}

double Sample::At(const std::string& series) const {
  const auto found = values_.find(series);
  if (found == values_.end()) throw std::out_of_range("no series " + series);
  return found->second;
}

double Sample::BreaksOfAllSides() const { return At(kParentBreaks) + At(kChildBreaks) + At(kUnknownBreaks); }

double Change::UnsharedPages() const {
  double pages = 0;
  for (const char* cause : {"exit", "unmap", "collapse", "unknown"}) pages += Pages(Unshared(cause));
  return pages;
}

std::chrono::minutes DefaultFullEvery() {
  const char* minutes = std::getenv("COW_LIVE_FULL_EVERY_MINUTES");  // NOLINT(concurrency-mt-unsafe)
  return std::chrono::minutes(minutes == nullptr ? 0 : std::stoi(minutes));
}

collectors::EngineOptions DefaultOptions(std::chrono::minutes full_every, const std::vector<std::string>& more) {
  collectors::EngineOptions options;
  options.collectors = more;
  for (const collectors::CollectorInfo& info : collectors::AvailableCollectors()) {
    if (info.enabled_by_default) options.collectors.emplace_back(info.name);
  }
  options.full_every = full_every;
  return options;
}

void ExpectNoVerdict(const Change& change) {
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
}

LiveTest::LiveTest(std::chrono::minutes full_every, const std::vector<std::string>& more, procfs::Root root)
    : group_("live" + std::to_string(getpid())),
      workload_(StartWorkload(group_)),
      engine_(std::move(root), DefaultOptions(full_every, more)) {}

void LiveTest::SetUp() {
  if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  ASSERT_EQ(Pass().At("cow_exporter_capability{feature=frames}"), 1);
}

std::unique_ptr<testing::Workload> LiveTest::StartWorkload(const std::string& group) {
  auto workload = std::make_unique<testing::Workload>();
  workload->Do("name 0 " + group);
  return workload;
}

bool LiveTest::TryPass() {
  test::NoControl control;
  return engine_.RunPass(control);
}

Sample LiveTest::PassOf(collectors::Engine& engine, std::string_view group) const {
  test::NoControl control;
  if (!engine.RunPass(control)) throw std::runtime_error("the pass was not completed");
  Sample sample(test::CollectDeclared(engine), group);
  if (!all_is_read_) return sample;
  if (sample.Has("cow_scan_coverage_ratio")) {
    EXPECT_EQ(sample.At("cow_scan_coverage_ratio"), 1);
  }
  for (const char* reason : {"denied", "gone", "budget", "malformed", "too_large"}) {
    const std::string series = std::string("cow_unread_processes{reason=").append(reason).append("}");
    if (sample.Has(series)) {
      EXPECT_EQ(sample.At(series), 0) << reason;
    }
  }
  return sample;
}

int LiveTest::ForkOver(const std::string& name, size_t pages, std::string_view kind) {
  workload().Map(0, name, pages, kind);
  Write(0, name, 0, pages);
  return ForkWarm(0);
}

int LiveTest::ForkWarm(int parent) {
  const int child = Fork(parent);
  Idle(parent);
  Idle(child);
  return child;
}

void LiveTest::Write(int id, std::string_view name, size_t first, size_t pages) {
  Do("write " + std::to_string(id) + " " + std::string(name) + " " + std::to_string(first) + " " +
     std::to_string(pages));
}

void LiveTest::ExpectKernelsAccount(const Sample& sample, int child) {
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(sample.Pages(kExposure), static_cast<double>(memory.exposure_pages));
  EXPECT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(memory.shared_pages));
  EXPECT_EQ(sample.Pages(kFootprint), static_cast<double>(memory.footprint_pages));
  EXPECT_EQ(sample.At(kUnmatched), 0);
}

std::string KernelLacks(std::string_view feature) { return "missing kernel feature: " + std::string(feature); }

std::string WhyNoHugePages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string modes;
  if (!std::getline(file, modes)) return KernelLacks("transparent huge pages");
  return modes.find("[never]") == std::string::npos ? "" : "transparent huge pages are off";
}

std::string WhyNoPagemapScan(const Sample& sample) {
  return sample.At("cow_exporter_capability{feature=pagemap_scan}") != 0 ? "" : KernelLacks("PAGEMAP_SCAN (Linux 6.7)");
}

std::string WhyNoZeroPage() { return ZeroPageFrame() != procfs::kNoZeroPage.number() ? "" : KernelLacks("zero page"); }

// If the kernel has a huge zero page, two ranges of huge pages that were only read have the same frames.
std::string WhyNoHugeZeroPage() {
  if (std::string reason = WhyNoHugePages(); !reason.empty()) return reason;
  const uint64_t bytes = 3 * HugePageBytes();
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return "no memory for two huge pages";  // NOLINT: the C macro casts
  madvise(memory, bytes, MADV_HUGEPAGE);
  const uint64_t first =
      (reinterpret_cast<uintptr_t>(memory) + HugePageBytes() - 1) / HugePageBytes() * HugePageBytes();
  const auto frames = [first](uint64_t range) {
    const uint64_t address = first + range * HugePageBytes();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): aligned to a huge page
    static_cast<void>(*reinterpret_cast<volatile char*>(address));
    std::vector<uint64_t> entries = ReadPagemap(getpid(), address, HugePageBytes() / PageBytes());
    for (uint64_t& entry : entries) entry &= kFrameMask;
    return entries;
  };
  const std::vector<uint64_t> one = frames(0);
  const bool is_zero_page = one == frames(1) && one[1] == one[0] + 1;
  munmap(memory, bytes);
  return is_zero_page ? "" : KernelLacks("huge zero page");
}

// If the kernel has a zero page, two pages that were only read have the same frame.
uint64_t ZeroPageFrame() {
  void* const memory = mmap(nullptr, 2 * PageBytes(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for two pages");  // NOLINT: the C macro casts
  madvise(memory, 2 * PageBytes(), MADV_NOHUGEPAGE);
  for (const size_t page : {0U, 1U}) static_cast<void>(static_cast<volatile char*>(memory)[page * PageBytes()]);
  const std::vector<uint64_t> entries = ReadPagemap(getpid(), reinterpret_cast<uintptr_t>(memory), 2);
  munmap(memory, 2 * PageBytes());
  const uint64_t frame = entries[0] & kFrameMask;
  return frame == (entries[1] & kFrameMask) ? frame : procfs::kNoZeroPage.number();
}

uint64_t AnonymousFrame(uint64_t entry) { return (entry & (kPresent | kFile)) == kPresent ? entry & kFrameMask : 0; }

bool IsAway(uint64_t entry) { return (entry & (kPresent | kSwapped | kGuard)) == kSwapped; }

std::vector<Area> ReadAreas(pid_t pid) {
  std::vector<Area> areas;
  std::ifstream maps(ProcPath(pid, "maps"));
  for (std::string line; std::getline(maps, line);) {
    Area area;
    if (ParseArea(line, area) && !line.ends_with("[vsyscall]")) areas.push_back(std::move(area));
  }
  return areas;
}

std::vector<uint64_t> ReadPagemap(pid_t pid, uint64_t address, size_t pages) {
  const int file = open(ProcPath(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC);
  std::vector<uint64_t> entries(pages);
  const size_t bytes = pages * sizeof(uint64_t);
  const ssize_t length =
      pread(file, entries.data(), bytes, static_cast<off_t>(address / PageBytes() * sizeof(uint64_t)));
  close(file);
  if (length != static_cast<ssize_t>(bytes)) throw std::runtime_error("pagemap is cut short");
  for (uint64_t& entry : entries) entry &= ~kSoftDirty;
  return entries;
}

AnonymousMemory CountAnonymousMemory(const std::vector<pid_t>& pids) {
  const uint64_t zero_frame = ZeroPageFrame();
  std::unordered_map<uint64_t, uint64_t> holders;
  for (const pid_t pid : pids) {
    for (const Area& area : ReadAreas(pid)) {
      for (const uint64_t entry : ReadPagemap(pid, area.start, (area.end - area.start) / PageBytes())) {
        const uint64_t frame = AnonymousFrame(entry);
        if (frame != 0 && frame != zero_frame) ++holders[frame];
      }
    }
  }
  AnonymousMemory memory;
  memory.footprint_pages = holders.size();
  for (const auto& [frame, count] : holders) {
    (count > 1 ? memory.shared_pages : memory.private_pages) += count;
    memory.exposure_pages += count - 1;
  }
  return memory;
}

uint64_t SumOfSmaps(pid_t pid, std::string_view field) {
  std::ifstream smaps(ProcPath(pid, "smaps"));
  uint64_t sum = 0;
  Area area;
  for (std::string line; std::getline(smaps, line);) {
    if (ParseArea(line, area)) continue;
    std::istringstream words(line);
    std::string name;
    uint64_t kilobytes = 0;
    words >> name >> kilobytes;
    if (name == std::string(field) + ":" && area.permissions.at(3) == 'p') sum += kilobytes * 1024;
  }
  return sum;
}

}  // namespace cow::live

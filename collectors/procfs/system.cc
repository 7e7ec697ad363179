#include "collectors/procfs/system.h"

#include <elf.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "collectors/base/text.h"
#include "collectors/procfs/auxiliary_vector.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/mountinfo.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/status.h"

namespace cow::procfs {
namespace {

constexpr size_t kMaxPageBytes = size_t{1} << 24;  // far above every architecture's size; its square fits in 64 bits
constexpr uint64_t kDacReadSearch = uint64_t{1} << 2;
constexpr uint64_t kSysAdmin = uint64_t{1} << 21;

std::optional<uint64_t> ReadAuxiliaryValue(const Root& root, uint64_t type) {
  const auto vector = ReadAuxiliaryVector(root, root.ProcPath("self/auxv"));
  return vector ? vector->Find(type) : std::nullopt;
}

uint64_t SystemValue(int name) {
  const auto value = sysconf(name);
  return value > 0 ? static_cast<uint64_t>(value) : 0;
}

// Returns the trimmed text after `key` on the first line that begins with it.
Result<std::string> ReadLineAfter(const Root& root, const std::string& path, std::string_view key) {
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  std::string_view rest = *text;
  std::string_view line;
  while (text::NextLine(rest, line)) {
    if (line.starts_with(key)) return std::string(text::Trim(line.substr(key.size())));
  }
  return tl::unexpected(text::MissingField(path, text::Trim(key)));
}

bool LinkIs(const Root& root, const std::string& path, std::string_view target) {
  const auto link = ReadLink(root, path);
  return link && *link == target;
}

bool HidesProcesses(std::string_view options) {
  while (!options.empty()) {
    const std::string_view option = text::CutAt(options, ',');
    if (option.starts_with("subset=")) return true;
    if (option.starts_with("hidepid=") && option != "hidepid=0" && option != "hidepid=off") return true;
  }
  return false;
}

bool MountShowsEveryProcess(const Root& root) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(root.ProcPath(""), error);
  if (error) return false;
  const std::string procfs = canonical.has_filename() ? canonical.string() : canonical.parent_path().string();
  auto mounts = MountinfoReader::OpenSelf(root);
  if (!mounts) return false;
  bool shows_every_process = false;
  for (;;) {
    const auto mount = mounts->Next();
    if (!mount) return false;
    if (*mount == nullptr) return shows_every_process;
    if ((*mount)->mount_point != procfs) continue;
    // The last mount on a mount point hides the earlier ones.
    shows_every_process = (*mount)->filesystem_type == "proc" && !HidesProcesses((*mount)->mount_options) &&
                          !HidesProcesses((*mount)->super_options);
  }
}

// A private anonymous page of this process that was read but never written.
class ReadFaultedPage {
 public:
  explicit ReadFaultedPage(size_t page_bytes)
      : page_bytes_(page_bytes), page_(mmap(nullptr, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (!IsMapped()) return;
    madvise(page_, page_bytes_, MADV_NOHUGEPAGE);  // avoids the huge zero page; fails if the kernel has no huge pages
    static_cast<void>(*static_cast<const volatile char*>(page_));
  }
  ReadFaultedPage(const ReadFaultedPage&) = delete;
  ReadFaultedPage& operator=(const ReadFaultedPage&) = delete;
  ~ReadFaultedPage() {
    if (IsMapped()) munmap(page_, page_bytes_);
  }

  bool IsMapped() const { return page_ != MAP_FAILED; }  // NOLINT: the C macro casts
  uint64_t Address() const { return reinterpret_cast<uintptr_t>(page_); }

 private:
  size_t page_bytes_;
  void* page_;
};

}  // namespace

Result<PageGeometry> ReadPageGeometry(const Root& root) {
  PageGeometry geometry;
  const auto page_bytes = ReadAuxiliaryValue(root, AT_PAGESZ);
  geometry.page_bytes = page_bytes ? *page_bytes : SystemValue(_SC_PAGESIZE);
  if (!std::has_single_bit(geometry.page_bytes) || geometry.page_bytes > kMaxPageBytes) {
    return tl::unexpected(text::BadField(root.ProcPath("self/auxv"), "page size", std::to_string(geometry.page_bytes)));
  }
  geometry.huge_page_bytes = geometry.page_bytes / sizeof(uint64_t) * geometry.page_bytes;
  const std::string path = root.SysPath("kernel/mm/transparent_hugepage/hpage_pmd_size");
  if (const auto text = ReadTextFile(root, path)) {
    const auto huge_page_bytes = text::NumberField<size_t>(path, "huge page size", text::FirstLine(*text));
    if (!huge_page_bytes) return tl::unexpected(huge_page_bytes.error());
    geometry.huge_page_bytes = *huge_page_bytes;
  }
  if (!std::has_single_bit(geometry.huge_page_bytes) || geometry.huge_page_bytes < geometry.page_bytes) {
    return tl::unexpected(text::BadField(path, "huge page size", std::to_string(geometry.huge_page_bytes)));
  }
  return geometry;
}

PageGeometry RequirePageGeometry(const Root& root) {
  const auto geometry = ReadPageGeometry(root);
  if (!geometry) throw std::runtime_error(geometry.error().ToString());
  return *geometry;
}

uint64_t ReadClockTicksPerSecond(const Root& root) {
  const auto ticks = ReadAuxiliaryValue(root, AT_CLKTCK);
  return ticks.value_or(0) != 0 ? *ticks : SystemValue(_SC_CLK_TCK);
}

uint64_t TicksSinceBoot(uint64_t ticks_per_second) {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const auto seconds = static_cast<uint64_t>(now.tv_sec);
  const auto nanoseconds = static_cast<uint64_t>(now.tv_nsec);
  return seconds * ticks_per_second + nanoseconds * ticks_per_second / 1'000'000'000;
}

Result<uint64_t> ReadBootTimeSeconds(const Root& root) {
  const std::string path = root.ProcPath("stat");
  return ReadLineAfter(root, path, "btime ").and_then([&](const std::string& value) {
    return text::NumberField<uint64_t>(path, "btime", value);
  });
}

Result<uint64_t> ReadAnonPagesBytes(const Root& root) {
  const std::string path = root.ProcPath("meminfo");
  return ReadLineAfter(root, path, "AnonPages:").and_then([&](const std::string& value) {
    return text::KilobytesField(path, "AnonPages", value);
  });
}

bool SeesEveryProcess(const Root& root) {
  constexpr uint64_t kNeeded = kSysAdmin | kDacReadSearch;
  const auto capabilities = ReadEffectiveCapabilities(root);
  return capabilities && (*capabilities & kNeeded) == kNeeded &&
         LinkIs(root, root.ProcPath("self/ns/pid"), "pid:[4026531836]") &&
         LinkIs(root, root.ProcPath("self/ns/user"), "user:[4026531837]") && MountShowsEveryProcess(root);
}

std::optional<uint64_t> ReadEffectiveCapabilities(const Root& root) {
  const auto status = ReadSelfStatus(root);
  if (!status) return std::nullopt;
  return status->effective_capabilities;
}

Result<std::vector<int>> ReadOnlineProcessors(const Root& root) {
  constexpr int kMaxProcessor = 1 << 20;  // far above every kernel's limit
  const std::string path = root.SysPath("devices/system/cpu/online");
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  std::vector<int> processors;
  std::string_view rest = text::FirstLine(*text);
  while (!rest.empty() && !rest.ends_with(',')) {
    std::string_view range = text::CutAt(rest, ',');
    const bool is_single = range.find('-') == std::string_view::npos;
    const auto first = text::ParseNumber<int>(text::CutAt(range, '-'));
    const auto last = is_single ? first : text::ParseNumber<int>(range);
    const int above = processors.empty() ? 0 : processors.back() + 1;
    if (!first || !last || *first < above || *last < *first || *last > kMaxProcessor) break;
    for (int processor = *first; processor <= *last; ++processor) processors.push_back(processor);
    if (rest.empty()) return processors;
  }
  return tl::unexpected(text::BadField(path, "online", *text));
}

std::optional<Pfn> FindZeroPageFrame(const Root& root, const PageGeometry& geometry) {
  const auto descriptor = OpenReadOnly(root, root.ProcPath("self/pagemap"));
  if (!descriptor) return std::nullopt;
  // A real procfs of any PID namespace resolves `self` to this process. A fixture tree does not.
  struct statfs filesystem {};
  if (fstatfs(descriptor->get(), &filesystem) != 0 || filesystem.f_type != PROC_SUPER_MAGIC) return std::nullopt;
  const ReadFaultedPage page(geometry.page_bytes);
  if (!page.IsMapped()) return std::nullopt;
  PageEntry entry;
  const uint64_t offset = geometry.PageOf(page.Address()).number() * sizeof(entry);
  const auto bytes = ReadSome(*descriptor, nullptr, "", std::as_writable_bytes(std::span(&entry, 1)), offset);
  if (bytes.value_or(0) != sizeof(entry) || !entry.IsPresent() || entry.Frame() == Pfn::None()) return std::nullopt;
  return entry.IsMappedOnce() ? kNoZeroPage : entry.Frame();
}

std::optional<std::vector<std::pair<uint32_t, uint32_t>>> FindKernelHugetlb(const Root& root) {
  constexpr std::string_view kPrefix = "hugepages-";
  struct statfs filesystem {};
  if (statfs(root.procfs().c_str(), &filesystem) != 0 || filesystem.f_type != PROC_SUPER_MAGIC) return std::nullopt;
  std::vector<std::pair<uint32_t, uint32_t>> devices;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(root.SysPath("kernel/mm/hugepages"), error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with("kB")) continue;
    const auto kilobytes =
        text::ParseNumber<uint64_t>(std::string_view(name).substr(kPrefix.size(), name.size() - kPrefix.size() - 2));
    if (!kilobytes || !std::has_single_bit(*kilobytes)) return std::nullopt;
    const auto size_bits = static_cast<unsigned>(std::countr_zero(*kilobytes)) + 10;
    const FileDescriptor memory(memfd_create("cow_exporter", MFD_CLOEXEC | MFD_HUGETLB | size_bits << MAP_HUGE_SHIFT));
    struct stat status {};
    if (!memory.valid() || fstat(memory.get(), &status) != 0) return std::nullopt;
    devices.emplace_back(major(status.st_dev), minor(status.st_dev));
  }
  if (error) return std::nullopt;
  return devices;
}

std::vector<PhysicalRange> ReadKernelImage(const Root& root) {
  std::vector<PhysicalRange> ranges;
  const auto content = ReadTextFile(root, root.ProcPath("iomem"));
  if (!content) return ranges;
  std::string_view rest = *content;
  std::string_view line;
  while (text::NextLine(rest, line)) {
    std::string_view name = line;
    const std::string_view addresses = text::Trim(text::CutAt(name, ':'));
    if (!text::Trim(name).starts_with("Kernel ")) continue;
    std::string_view last = addresses;
    const std::string_view first = text::CutAt(last, '-');
    const auto first_address = text::ParseNumber<uint64_t>(first, 16);
    const auto last_address = text::ParseNumber<uint64_t>(last, 16);
    if (first_address && last_address && *last_address > *first_address) {
      ranges.push_back({*first_address, *last_address});
    }
  }
  return ranges;
}

uint64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlimit raised = limit;
  raised.rlim_cur = raised.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

}  // namespace cow::procfs

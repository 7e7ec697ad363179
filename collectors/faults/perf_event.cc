#include "collectors/faults/perf_event.h"

#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

#include "collectors/base/text.h"
#include "collectors/procfs/system.h"

namespace cow::faults {
namespace {

constexpr const char* kCall = "perf_event_open";
constexpr uint32_t kStackBytes = 8192;  // of a stack copy; a multiple of 8

#if defined(__x86_64__)
constexpr uint64_t kUserRegisters = 0xff01ff;  // asm/perf_regs.h: all but flags and segments
#elif defined(__aarch64__)
constexpr uint64_t kUserRegisters = (uint64_t{1} << 33U) - 1;
#else
#error "the registers of this architecture are unknown"
#endif

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

bool Has(uint64_t capabilities, unsigned capability) { return (capabilities >> capability & 1U) != 0; }

std::string DeniedSentence(const procfs::Root& root) {
  const uint64_t held = procfs::ReadEffectiveCapabilities(root).value_or(0);
  const auto paranoid = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/perf_event_paranoid"));
  const std::string level = paranoid ? std::string(text::FirstLine(*paranoid)) : std::string("unknown");
  if (Has(held, CAP_SYS_ADMIN)) {
    return "the kernel refuses performance events despite CAP_SYS_ADMIN: a seccomp filter or a security module denies "
           "the call";
  }
  const std::string setting = " (kernel.perf_event_paranoid is " + level + ")";
  if (Has(held, CAP_PERFMON)) {
    return "the kernel refuses performance events despite CAP_PERFMON: this kernel needs CAP_SYS_ADMIN" + setting +
           ", or a seccomp filter or a security module denies the call";
  }
  return "recording page faults needs CAP_PERFMON or CAP_SYS_ADMIN; without them, the kernel allows it for a user's "
         "own "
         "processes if kernel.perf_event_paranoid is 2 or less" +
         setting + " and no seccomp filter or security module denies the call";
}

}  // namespace

perf_event_attr FaultAttributes(Stacks stacks, uint32_t one_in, const PerfAbilities& abilities) {
  perf_event_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_PAGE_FAULTS_MIN;
  attributes.sample_period = std::max(one_in, uint32_t{1});  // 0 would record nothing
  // PERF_SAMPLE_PERIOD would make the kernel record every fault, whatever the period.
  attributes.sample_type =
      PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR;
  if (stacks == Stacks::kFramePointers) attributes.sample_type |= PERF_SAMPLE_CALLCHAIN;
  if (stacks == Stacks::kDwarf) {
    attributes.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
    attributes.sample_regs_user = kUserRegisters;
    attributes.sample_stack_user = kStackBytes;
  }
  attributes.exclude_callchain_kernel = 1;
  attributes.exclude_kernel = abilities.kernel_faults ? 0 : 1;
  attributes.exclude_hv = 1;
  attributes.inherit = 1;
  attributes.task = 1;
  attributes.mmap = 1;
  attributes.mmap2 = 1;
  attributes.build_id = abilities.build_ids ? 1 : 0;
  attributes.comm = 1;
  attributes.comm_exec = 1;
  attributes.sample_id_all = 1;
  attributes.use_clockid = 1;
  attributes.clockid = CLOCK_MONOTONIC;
  if (abilities.lost_counts) attributes.read_format = PERF_FORMAT_LOST;
  return attributes;
}

Result<procfs::FileDescriptor> OpenEvent(const perf_event_attr& attributes, pid_t task, int cpu) {
  perf_event_attr copy = attributes;  // the kernel writes its size on failure
  const auto fd = static_cast<int>(syscall(SYS_perf_event_open, &copy, task, cpu, -1, PERF_FLAG_FD_CLOEXEC));
  if (fd < 0) return tl::unexpected(Error::FromErrno(kCall, errno));
  return procfs::FileDescriptor(fd);
}

uint64_t ReadLostCount(const procfs::FileDescriptor& event) {
  std::array<uint64_t, 2> counts{};  // faults, lost records
  return read(event.get(), counts.data(), sizeof(counts)) == sizeof(counts) ? counts[1] : 0;
}

Error ExplainOpenError(const procfs::Root& root, int error_number) {
  Error error = Error::FromErrno(kCall, error_number);
  if (error.kind == ErrorKind::kDenied) error.detail = DeniedSentence(root);
  if (error_number == ENOSYS) {
    error.detail = "this kernel has no performance events (CONFIG_PERF_EVENTS), or a seccomp filter hides them";
  }
  if (error_number == EMFILE) error.detail = "each thread needs a descriptor per CPU; raise the limit of open files";
  return error;
}

Result<PerfRing> PerfRing::Open(int cpu, size_t data_bytes, const perf_event_attr& like) {
  perf_event_attr attributes = like;
  attributes.config = PERF_COUNT_SW_DUMMY;
  attributes.sample_period = 0;
  attributes.disabled = 1;
  attributes.inherit = 0;
  attributes.task = attributes.mmap = attributes.mmap2 = attributes.build_id = attributes.comm = 0;
  attributes.comm_exec = 0;
  // The main thread lives as long as the process. Once its task ends, an event reports a hang-up instead of records.
  auto holder = OpenEvent(attributes, getpid(), cpu);
  if (!holder) return tl::unexpected(holder.error());
  PerfRing ring(cpu, std::move(*holder));
  const size_t bytes = PageBytes() + data_bytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.descriptor(), 0);
  if (memory == MAP_FAILED) return tl::unexpected(Error::FromErrno("ring of perf events", errno));
  ring.memory_ = memory;
  ring.memory_bytes_ = bytes;
  ring.data_bytes_ = data_bytes;
  return ring;
}

PerfRing::PerfRing(PerfRing&& other) noexcept
    : cpu_(other.cpu_),
      holder_(std::move(other.holder_)),
      memory_(std::exchange(other.memory_, nullptr)),
      memory_bytes_(other.memory_bytes_),
      data_bytes_(other.data_bytes_) {}

PerfRing& PerfRing::operator=(PerfRing&& other) noexcept {
  std::swap(cpu_, other.cpu_);
  std::swap(holder_, other.holder_);
  std::swap(memory_, other.memory_);
  std::swap(memory_bytes_, other.memory_bytes_);
  std::swap(data_bytes_, other.data_bytes_);
  return *this;
}

PerfRing::~PerfRing() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

bool PerfRing::HalfFull() const {
  const uint64_t head = std::atomic_ref(page()->data_head).load(std::memory_order_acquire);
  return head - page()->data_tail >= data_bytes_ / 2;
}

Result<void> PerfRing::Redirect(const procfs::FileDescriptor& event) const {
  if (ioctl(event.get(), PERF_EVENT_IOC_SET_OUTPUT, descriptor()) == 0) return {};
  return tl::unexpected(Error::FromErrno("ring of perf events", errno));
}

void PerfRing::Take(std::vector<std::byte>& bytes) {
  const uint64_t head = std::atomic_ref(page()->data_head).load(std::memory_order_acquire);
  const auto* data = static_cast<const std::byte*>(memory_) + PageBytes();
  CopyFromRing({data, data_bytes_}, page()->data_tail, head, bytes);
  std::atomic_ref(page()->data_tail).store(head, std::memory_order_release);
}

}  // namespace cow::faults

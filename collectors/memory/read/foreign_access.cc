#include "collectors/memory/read/foreign_access.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "collectors/memory/read/kernel_probe.h"
#include "collectors/procfs/auxiliary_vector.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/stat.h"

namespace cow::memory {
namespace {

constexpr int kChildMilliseconds = 2000;

// A child that is not dumpable. Ends with this object.
class Stranger {
 public:
  Stranger() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return;
    const procfs::FileDescriptor reader(ends[0]);
    std::optional<procfs::FileDescriptor> writer(std::in_place, ends[1]);
    pid_ = fork();
    if (pid_ == 0) RunChild(writer->get());
    writer.reset();
    pollfd until_told{reader.get(), POLLIN, 0};
    char byte = 0;
    ready_ = pid_ > 0 && poll(&until_told, 1, kChildMilliseconds) == 1 && read(reader.get(), &byte, 1) == 1;
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
  ~Stranger() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  bool ready() const { return ready_; }
  pid_t pid() const { return pid_; }

 private:
  // The parent may have other threads: makes system calls only.
  [[noreturn]] static void RunChild(int writer) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || write(writer, "x", 1) != 1) _exit(1);
    while (true) pause();
  }

  pid_t pid_ = -1;
  bool ready_ = false;
};

}  // namespace

ForeignAccess ProbeForeignAccess(const procfs::Root& root) {
  if (!IsOfThisSystem(root)) return {true, true};
  // Another PID namespace's procfs shows the child under a pid that is unknown here.
  const auto self = procfs::ReadLink(root, root.ProcPath("self"));
  const procfs::Root where = self && *self == std::to_string(getpid()) ? root : procfs::Root();
  const Stranger stranger;
  if (!stranger.ready()) return {};
  ForeignAccess access;
  auto vmas = procfs::MapsReader::Open(where, stranger.pid());
  procfs::Vma vma;
  access.page_tables = vmas && vmas->Next(vma).value_or(false) && procfs::Pagemap::Open(where, stranger.pid()) &&
                       procfs::ReadAuxiliaryVector(where, where.ProcPath(stranger.pid(), "auxv"));
  const auto stat = procfs::ReadStat(where, stranger.pid());
  access.details = procfs::ReadLink(where, where.ProcPath(stranger.pid(), "exe")) && stat && stat->LayoutKnown();
  return access;
}

}  // namespace cow::memory

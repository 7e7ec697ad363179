#include "collectors/explain/failure.h"

#include <utility>

#include "collectors/explain/denial.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/status.h"

namespace cow::explain {
namespace {

using Kind = Failure::Kind;

std::string Numbered(pid_t pid) { return "process " + std::to_string(pid); }

}  // namespace

tl::unexpected<Failure> Fail(Failure::Kind kind, std::string message) {
  return tl::unexpected(Failure{kind, std::move(message)});
}

std::string WhyUnread(const procfs::Root& root, pid_t pid, const Error& error) {
  if (error.kind != ErrorKind::kDenied) return error.ToString();
  return error.ToString() + ": " + DescribeDenial(ReadDenialFacts(root, pid, error));
}

tl::unexpected<Failure> FailToRead(const procfs::Root& root, pid_t pid, const Error& error) {
  switch (error.kind) {
    case ErrorKind::kGone:
      return Fail(Kind::kEnded, Numbered(pid) + " ended while it was read");
    case ErrorKind::kDenied:
      return Fail(Kind::kDenied, Numbered(pid) + " can't be read: " + WhyUnread(root, pid, error));
    default:
      return Fail(Kind::kOther, Numbered(pid) + " can't be read: " + error.ToString());
  }
}

tl::expected<void, Failure> CheckProcess(const procfs::Root& root, pid_t pid) {
  const auto stat = procfs::ReadStat(root, pid);
  if (!stat) {
    if (stat.error().kind == ErrorKind::kGone) {
      const std::string hidepid = ReadHidepid(root);
      return Fail(Kind::kNoProcess,
                  "there is no " + Numbered(pid) + (hidepid.empty() ? "" : ", or /proc hides it: hidepid=" + hidepid));
    }
    return FailToRead(root, pid, stat.error());
  }
  if (stat->IsKernelThread()) {
    return Fail(Kind::kNoMemory, Numbered(pid) + " is a thread of the kernel and has no memory of its own");
  }
  if (stat->HasNoMemory() && stat->num_threads < 2) {
    return Fail(Kind::kNoMemory, Numbered(pid) + " has ended and is not reaped yet (a zombie): its memory is gone");
  }
  const auto status = procfs::ReadStatus(root, pid);
  if (status && status->tgid != pid) {
    return Fail(Kind::kThread, std::to_string(pid) + " is a thread of " + Numbered(status->tgid) + ": ask for that");
  }
  return {};
}

}  // namespace cow::explain

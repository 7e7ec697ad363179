#include "exporter/sandbox/filter.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "exporter/sandbox/own_threads.h"

namespace cow::exporter {
namespace {

// libseccomp returns negative error numbers.
void Check(int code, const char* what) {
  if (code < 0) throw std::runtime_error(std::string(what) + ": " + std::generic_category().message(-code));
}

}  // namespace

Filter::Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
  if (context_ == nullptr) throw std::runtime_error("seccomp_init failed");
  Check(seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)), "seccomp_attr_set");
  Check(seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_NNP, 0), "seccomp_attr_set");
  // The filter covers threads that are already there. An outer filter may hide that the kernel can.
  const int all_threads = seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (all_threads < 0 && HasOtherThreads()) Check(all_threads, "a filter for all threads");
  Check(seccomp_rule_add(context_.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0), "seccomp_rule_add");
}

void Filter::Allow(std::span<const int> calls) {
  for (const int call : calls) Allow(call, {});
}

void Filter::Allow(int call, std::initializer_list<scmp_arg_cmp> conditions) {
  // Ignores a call that this architecture does not have.
  Check(seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call, static_cast<unsigned>(conditions.size()),
                               conditions.begin()),
        "seccomp_rule_add");
}

void Filter::Load() { Check(seccomp_load(context_.get()), "seccomp_load"); }

bool KernelHasFilters() {
  // The kernel checks the mode before it reads the filter.
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr, 0, 0) != 0 && errno == EFAULT;
}

}  // namespace cow::exporter

// A seccomp filter: a list of system calls that may pass. Hides libseccomp's handle. Throws std::runtime_error if
// libseccomp or the kernel refuses. Use it from one thread.
#pragma once

#include <seccomp.h>

#include <initializer_list>
#include <memory>
#include <span>

namespace cow::exporter {

class Filter {
 public:
  // Refuses every call with EPERM, those of other architectures too, and clone3 with ENOSYS.
  Filter();

  void Allow(std::span<const int> calls);
  // Allows a call if all conditions hold; each argument may have one. Several of these for one call allow it if any of
  // them matches.
  void Allow(int call, std::initializer_list<scmp_arg_cmp> conditions);

  // Puts the filter in force for this process for good. no_new_privs must be set.
  void Load();

 private:
  struct Releaser {
    void operator()(void* context) const { seccomp_release(context); }
  };
  std::unique_ptr<void, Releaser> context_;
};

// True if the kernel has seccomp filters. Installs none.
bool KernelHasFilters();

// Conditions on the argument `number`, which counts from 0.
inline scmp_arg_cmp Equals(unsigned number, scmp_datum_t value) { return {number, SCMP_CMP_EQ, value, 0}; }
// The bits of `mask` have the value `value`. The other bits may have any.
inline scmp_arg_cmp BitsAre(unsigned number, scmp_datum_t mask, scmp_datum_t value) {
  return {number, SCMP_CMP_MASKED_EQ, mask, value};
}
inline scmp_arg_cmp NoneOf(unsigned number, scmp_datum_t mask) { return BitsAre(number, mask, 0); }

}  // namespace cow::exporter

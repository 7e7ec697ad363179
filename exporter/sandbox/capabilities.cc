#include "exporter/sandbox/capabilities.h"

#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/types.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#include "exporter/sandbox/own_threads.h"
#include "exporter/sandbox/throw_errno.h"

namespace cow::exporter {
namespace {

struct CapabilityFreer {
  void operator()(void* memory) const { cap_free(memory); }
};
using Sets = std::unique_ptr<std::remove_pointer_t<cap_t>, CapabilityFreer>;

bool Has(const Sets& sets, cap_value_t capability, cap_flag_t set) {
  cap_flag_value_t value = CAP_CLEAR;
  return cap_get_flag(sets.get(), capability, set, &value) == 0 && value == CAP_SET;
}

bool Contains(std::span<const int> capabilities, int capability) {
  return std::find(capabilities.begin(), capabilities.end(), capability) != capabilities.end();
}

}  // namespace

void KeepOnly(std::span<const int> capabilities) {
  RequireOneThread();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ThrowErrno("no_new_privs");
  const Sets held(cap_get_proc());
  if (held == nullptr) ThrowErrno("cap_get_proc");
  if (Has(held, CAP_SETPCAP, CAP_EFFECTIVE)) {
    for (cap_value_t each = 0; each < cap_max_bits(); ++each) {
      if (!Contains(capabilities, each) && cap_drop_bound(each) != 0) ThrowErrno("cap_drop_bound");
    }
  }
  const Sets kept(cap_init());
  if (kept == nullptr) ThrowErrno("cap_init");
  for (const cap_value_t each : capabilities) {
    if (!Has(held, each, CAP_PERMITTED)) continue;
    cap_set_flag(kept.get(), CAP_PERMITTED, 1, &each, CAP_SET);
    cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &each, CAP_SET);
  }
  // The kernel takes a capability out of the ambient set when it leaves the inheritable set.
  if (cap_compare(held.get(), kept.get()) != 0 && cap_set_proc(kept.get()) != 0) ThrowErrno("cap_set_proc");
}

void DropAllCapabilities() { KeepOnly({}); }

}  // namespace cow::exporter

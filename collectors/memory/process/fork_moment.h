// A moment in the history of forks (fork_history.h). Pure value.
#pragma once

#include <cstdint>

namespace cow::memory {

struct ForkMoment {
  uint64_t event = 0;  // number of the latest event
  uint64_t ticks = 0;  // since boot, as in `stat`
};

}  // namespace cow::memory

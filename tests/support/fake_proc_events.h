// Stands in for the kernel's fork events. Not thread-safe.
#pragma once

#include <utility>
#include <vector>

#include "collectors/netlink/proc_events.h"

namespace cow::test {

// The future answers of the kernel.
struct Told {
  std::vector<netlink::ProcEvent> events;
  bool complete = true;
};

class FakeEvents : public netlink::ProcEvents {
 public:
  explicit FakeEvents(Told& told) : told_(told) {}
  bool Take(std::vector<netlink::ProcEvent>& events) override {
    events.insert(events.end(), told_.events.begin(), told_.events.end());
    told_.events.clear();
    return std::exchange(told_.complete, true);
  }

 private:
  Told& told_;
};

}  // namespace cow::test

// Messages of the kernel's proc connector.
#include <span>

#include "collectors/netlink/proc_events.h"
#include "tests/fuzz/check.h"

using cow::netlink::ProcEvent;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto message = cow::netlink::DecodeProcMessage(std::as_bytes(std::span(data, size)));
  if (!message) return 0;
  cow::fuzz::Check(!message->event || !message->answer, "a message is an event or an answer");
  if (message->event && message->event->kind != ProcEvent::Kind::kFork) {
    cow::fuzz::Check(message->event->parent == 0, "only forks have a parent");
  }
  return 0;
}

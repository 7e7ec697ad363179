// The ledger beside a model that knows every physical page. The input chooses the steps of a fork tree; each pass must
// find exactly what the model did.
#include <cstdint>
#include <string>

#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"
#include "tests/unit/memory/ledger/ledger_model.h"

using cow::fuzz::Check;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxSteps = 64;
  cow::fuzz::Bytes bytes(data, size);
  const uint8_t form = bytes.Byte();
  const bool with_moves = (form & 1U) != 0;
  // Partners of moved pages are found by their recorded frames, so these must fit the limit.
  const uint64_t limit = with_moves ? ~uint64_t{0} : (form & 2U) != 0 ? 600 : (form & 4U) != 0 ? 0 : ~uint64_t{0};
  cow::memory::LedgerModel model(limit, [&bytes](uint64_t below) { return bytes.Below(below); });
  std::string all;
  for (size_t step = 0; step < kMaxSteps && !bytes.Empty(); ++step) {
    model.ForgetCounts();
    all += model.Step(with_moves) + "\n";
    const cow::memory::PassResult pass = model.driver.Pass();
    Check(pass.breaks == model.breaks && pass.unknown_breaks == 0, "breaks after\n" + all);
    Check(pass.exposure_pages == model.Exposure() && pass.shared_pages == model.Shared(), "sharing after\n" + all);
    Check(pass.unmatched_pages == 0, "unmatched pages after\n" + all);
    if (with_moves) continue;  // a page moved over a shared one looks like a copy
    Check(pass.unshared == model.unshared, "unshared pages after\n" + all);
    Check(pass.unresolved_pages == 0 && pass.unattributed.empty(), "doubts after\n" + all);
    Check(model.driver.ledger.MemoryBytes() == model.driver.budget.used_bytes, "memory after\n" + all);
  }
  return 0;
}

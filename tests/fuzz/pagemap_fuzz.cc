// Entries of page tables with any bits, through the ledger: whatever members map, the sums of a pass fit together and
// the budget equals the memory. A pass over unchanged tables judges nothing if the tables are possible: the kernel maps
// a page of anonymous memory at one address of a process only, unless KSM has merged it.
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "collectors/procfs/pagemap.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"
#include "tests/unit/memory/ledger/ledger_driver.h"

using cow::Pfn;
using cow::fuzz::Bytes;
using cow::fuzz::Check;
using namespace cow::memory;  // NOLINT(google-build-using-namespace): the target is about it
namespace procfs = cow::procfs;

namespace {

constexpr size_t kMaxMembers = 5;
constexpr uint64_t kPages = 64;
constexpr size_t kPagesPerWindow = 32;
constexpr uint64_t kFrames = 24;

uint64_t Entry(Bytes& bytes) {
  const uint64_t frame = 100 + bytes.Below(kFrames);
  switch (bytes.Below(10)) {
    case 0:
      return procfs::kPagemapSwapped | bytes.Below(4) << 5U | 1U;
    case 1:
      return procfs::kPagemapSwapped | bytes.Below(32);  // any swap type: migration, markers and others
    case 2:
      return procfs::kPagemapGuard;
    case 3:
      return procfs::kPagemapPresent | procfs::kPagemapFile | frame;
    case 4:
      return procfs::kPagemapPresent | kTestZeroFrame;
    case 5:
      return procfs::kPagemapPresent | procfs::kPagemapSoftDirty | procfs::kPagemapUffdWriteProtected | frame;
    case 6: {
      uint64_t any = 0;
      for (int i = 0; i < 8; ++i) any = any << 8U | bytes.Byte();
      return any;
    }
    default:
      return procfs::kPagemapPresent | frame;
  }
}

class Tables {
 public:
  explicit Tables(Bytes& bytes)
      : bytes_(bytes), driver_(kPagesPerWindow, bytes.Below(2) == 0 ? ~uint64_t{0} : bytes.Below(4) * 300) {
    driver_.Add(0);
    slots_.push_back(0);
  }

  void Step() {
    const Slot slot = slots_[bytes_.Below(slots_.size())];
    switch (bytes_.Below(12)) {
      case 0:
        if (slots_.size() < kMaxMembers) {
          driver_.Fork(slot, next_);
          slots_.push_back(next_++);
        }
        break;
      case 1:
        if (slots_.size() > 1) {
          driver_.Exit(slot);
          std::erase(slots_, slot);
        }
        break;
      case 2:
        driver_.ksm_in_use = bytes_.Below(2) == 0;
        driver_.swapped_in = bytes_.Below(2) == 0;
        driver_.mapped_once_known = bytes_.Below(2) == 0;
        break;
      case 3:
        driver_.ReverseReadingOrder();
        break;
      case 4:
        driver_.MarkExclusive(100 + bytes_.Below(kFrames), bytes_.Below(2) == 0);
        break;
      case 5:
        driver_.MarkKsm(100 + bytes_.Below(kFrames));
        break;
      case 6:
        Drop(slot);
        break;
      default:
        Map(slot);
        break;
    }
  }

  PassResult Pass() {
    PassResult pass = driver_.Pass();
    Check(pass.exposure_pages >= 0 && pass.shared_pages >= 0, "no negative sum");
    Check(pass.exposure_pages <= pass.shared_pages, "a page is shared by its holders");
    uint64_t present = 0;
    for (const Slot slot : slots_) {
      std::set<uint64_t> frames;
      for (const auto& [page, entry] : driver_.At(slot).tables) {
        if (entry.IsPresent()) ++present;
        const Pfn frame = AnonFrame(entry, Pfn(kTestZeroFrame));
        if (frame != Pfn::None() && !frames.insert(frame.number()).second) possible_ = false;
      }
    }
    Check(static_cast<uint64_t>(pass.shared_pages) <= present, "shared pages are present");
    Check(driver_.ledger.MemoryBytes() == driver_.budget.used_bytes, "the budget equals the memory");
    return pass;
  }

  // False once a table was impossible.
  [[nodiscard]] bool Possible() const { return possible_; }

 private:
  void Map(Slot slot) {
    const uint64_t first = bytes_.Below(kPages);
    const uint64_t count = 1 + bytes_.Below(8);
    const uint64_t entry = Entry(bytes_);
    const uint64_t step = bytes_.Below(2);  // 1: consecutive frames
    for (uint64_t i = 0; i < count; ++i) driver_.MapEntry(slot, (first + i) % kPages, entry + i * step);
  }
  void Drop(Slot slot) {
    const uint64_t first = bytes_.Below(kPages);
    for (uint64_t i = 0; i <= bytes_.Below(8); ++i) driver_.Drop(slot, (first + i) % kPages);
  }

  Bytes& bytes_;
  LedgerDriver driver_;
  std::vector<Slot> slots_;
  Slot next_ = 1;
  bool possible_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxPasses = 24;
  Bytes bytes(data, size);
  Tables tables(bytes);
  for (size_t pass = 0; pass < kMaxPasses && !bytes.Empty(); ++pass) {
    for (uint64_t steps = 1 + bytes.Below(8); steps > 0; --steps) tables.Step();
    tables.Pass();
    const PassResult unchanged = tables.Pass();
    Check(!tables.Possible() || unchanged.verdicts.empty(),
          "nothing has changed: " + (unchanged.verdicts.empty() ? "" : unchanged.verdicts.front()));
  }
  return 0;
}

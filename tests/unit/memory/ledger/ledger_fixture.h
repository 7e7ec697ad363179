// The fixture of the ledger tests: a family under a LedgerDriver, with pages that it shares already.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/memory/ledger/ledger_driver.h"

namespace cow::memory {

using Words = std::vector<std::string>;

inline constexpr uint64_t kPage = 5;
inline constexpr uint64_t kFar = 5000;  // a page of another window

class LedgerTest : public testing::Test {
 protected:
  // `members` members share frame 100 at kPage, as an earlier pass saw.
  void Share(Slot members = 2) {
    for (Slot slot = 0; slot < members; ++slot) {
      driver_->Add(slot, slot == 0 ? kNobody : 0);
      driver_->Map(slot, kPage, 100);
    }
    const PassResult pass = driver_->Pass();
    ASSERT_EQ(pass.verdicts, Words{});
    ASSERT_EQ(pass.exposure_pages, members - 1);
  }
  // Two members share a window of single pages, from page 512 on, as an earlier pass saw.
  void ShareSmallPages() {
    driver_->Add(0);
    driver_->Add(1, 0);
    for (const Slot slot : {0U, 1U}) {
      for (uint64_t i = 0; i < 512; ++i) driver_->Map(slot, 512 + i, 1000 + 2 * i);
    }
    ASSERT_EQ(driver_->Pass().exposure_pages, 512);
  }
  // Expects that another pass finds no verdict.
  void ExpectStable(int64_t exposure_pages) {
    const PassResult pass = driver_->Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, exposure_pages);
  }

  void StartAgain() { driver_ = std::make_unique<LedgerDriver>(); }

  std::unique_ptr<LedgerDriver> driver_ = std::make_unique<LedgerDriver>();
};

}  // namespace cow::memory

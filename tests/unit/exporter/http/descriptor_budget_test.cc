#include "exporter/http/descriptor_budget.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace cow::exporter {
namespace {

TEST(DescriptorBudgetTest, KeepsItsLimits) {
  for (uint64_t limit = 0; limit < 1200; ++limit) {
    for (size_t needed = 0; needed < 1200; needed += 7) {
      const size_t connections = MaxConnections(limit, needed);
      ASSERT_GE(connections, 1U);
      ASSERT_LE(connections, 512U);
      if (limit >= needed + 3) {
        ASSERT_LE(needed + connections + 2, limit);
      }
      ASSERT_LE(connections, MaxConnections(limit + 1, needed));
      ASSERT_GE(connections, MaxConnections(limit, needed + 1));
      const size_t per_client = MaxConnectionsPerClient(connections);
      ASSERT_GE(per_client, 1U);
      ASSERT_LE(per_client, connections);
    }
  }
  EXPECT_EQ(MaxConnections(std::numeric_limits<uint64_t>::max(), 100), 512U);
  EXPECT_EQ(MaxConnections(64, 20), 42U);
  EXPECT_EQ(MaxConnectionsPerClient(512), 128U);
}

}  // namespace
}  // namespace cow::exporter

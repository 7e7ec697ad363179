#include "exporter/http/health_check.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <optional>
#include <string>

namespace cow::exporter {
namespace {

TEST(HealthCheckTest, ReportsTooManyOpenFiles) {
  const ListenAddress address = ParseListenAddress("unix:/nonexistent/socket").value();
  EXPECT_EQ(CheckHealth(address, {}), "No such file or directory");
  const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(next, 0);
  close(next);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::optional<std::string> problem = CheckHealth(address, {});
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(problem, "Too many open files");
}

}  // namespace
}  // namespace cow::exporter

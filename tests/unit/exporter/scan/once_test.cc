#include "exporter/scan/once.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "tests/unit/exporter/scan/fake_runner.h"

namespace cow::exporter {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

uint64_t NoLines() { return 0; }

class OnceTest : public testing::Test {
 protected:
  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
  FakeRunner runner_{[](collectors::PassControl& control) { return control.Continue(); }};
};

TEST_F(OnceTest, WritesTheMetrics) {
  const SelfMetrics self({"9.9", "abc", "GNU 1"}, true, std::chrono::system_clock::now(), &NoLines);
  const File out(std::tmpfile(), &std::fclose);
  ASSERT_TRUE(RunOnce(runner_, self, out.get(), log_));
  std::rewind(out.get());
  std::string text(1 << 16, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), out.get()));
  for (const char* line :
       {"\nfake_passes 1\n", "cow_exporter_build_info{version=\"9.9\",revision=\"abc\",compiler=\"GNU 1\"} 1\n",
        "\ncow_scan_duration_seconds ", "\ncow_scan_cpu_seconds_total ", "\nprocess_cpu_seconds_total ",
        "\nprocess_resident_memory_bytes ", "\nprocess_virtual_memory_bytes ", "\nprocess_start_time_seconds ",
        "\nprocess_open_fds ", "\nprocess_max_fds ", "\ncow_exporter_config_last_reload_successful 1\n",
        "\ncow_exporter_config_last_reload_success_timestamp_seconds "}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST_F(OnceTest, FailedWriteIsFalse) {
  const SelfMetrics self({}, false, {}, &NoLines);
  const File full(std::fopen("/dev/full", "we"), &std::fclose);
  ASSERT_NE(full, nullptr);
  EXPECT_FALSE(RunOnce(runner_, self, full.get(), log_));
}

TEST_F(OnceTest, FailedPassIsFalse) {
  FakeRunner failing([](collectors::PassControl& /*control*/) { return false; });
  const SelfMetrics self({}, false, {}, &NoLines);
  const File out(std::tmpfile(), &std::fclose);
  EXPECT_FALSE(RunOnce(failing, self, out.get(), log_));
}

}  // namespace
}  // namespace cow::exporter

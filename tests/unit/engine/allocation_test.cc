// Checks that a steady pass allocates nothing per process and nothing per page. A separate program, because it replaces
// operator new to count calls.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#include "collectors/engine/engine.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace {

uint64_t allocations = 0;

}  // namespace

// Not inlined: GCC 12 would report the free below as an error.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes); memory != nullptr) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }

namespace cow::collectors {
namespace {

constexpr uint64_t kHeap = 0x10000000;

EngineOptions Options(std::chrono::milliseconds full_every) {
  EngineOptions options;
  for (const CollectorInfo& info : AvailableCollectors()) {
    if (info.enabled_by_default) options.collectors.emplace_back(info.name);
  }
  options.full_every = full_every;
  return options;
}

uint64_t AllocationsOfAPass(Engine& engine) {
  test::NoControl control;
  const uint64_t before = allocations;
  EXPECT_TRUE(engine.RunPass(control));
  return allocations - before;
}

uint64_t AllocationsOfASteadyPass(const test::FixtureHost& host, std::chrono::milliseconds full_every) {
  host.tree().WriteFile("proc/vmstat", "pswpin 0\nthp_collapse_alloc 0\n");
  host.Sync();
  Engine engine(host.Root(), Options(full_every));
  for (int i = 0; i < 10; ++i) AllocationsOfAPass(engine);  // reads the sizes of each process
  return AllocationsOfAPass(engine);
}

uint64_t AllocationsWithIdleProcesses(int count) {
  test::FixtureHost host;
  for (pid_t pid = 100; pid < 100 + count; ++pid) {
    auto& process = host.Add(pid);
    process.layout += static_cast<uint64_t>(pid) << 20U;
    process.cgroup = "0::/a.slice/with/quite/a/long/path/of/its/own.service\n";
    process.comm = "a.long.name" + std::to_string(pid % 7);
    process.MapPages(kHeap, 4, static_cast<uint64_t>(pid) * 16);
  }
  return AllocationsOfASteadyPass(host, std::chrono::hours(1));
}

// Pages in one window.
uint64_t AllocationsWithPages(uint64_t pages) {
  test::FixtureHost host;
  host.Add(100).MapPages(kHeap, pages, 1000, "[heap]");
  host.Fork(100, 101);
  return AllocationsOfASteadyPass(host, std::chrono::milliseconds(0));
}

TEST(AllocationTest, NonePerIdleProcess) {
  const uint64_t few = AllocationsWithIdleProcesses(10);
  const uint64_t many = AllocationsWithIdleProcesses(200);
  std::printf("%llu and %llu allocations\n", static_cast<unsigned long long>(few),
              static_cast<unsigned long long>(many));
  EXPECT_LE(many, few + 10) << "the list of pids grows by doubling";
}

TEST(AllocationTest, NonePerPage) {
  const uint64_t few = AllocationsWithPages(16);
  const uint64_t many = AllocationsWithPages(512);
  std::printf("%llu and %llu allocations\n", static_cast<unsigned long long>(few),
              static_cast<unsigned long long>(many));
  EXPECT_LE(many, few);
}

}  // namespace
}  // namespace cow::collectors

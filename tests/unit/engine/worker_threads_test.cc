#include "collectors/engine/worker_threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>

namespace cow::collectors {
namespace {

TEST(WorkerThreadsTest, OneThreadIsTheCallingOne) {
  WorkerThreads workers(1);
  EXPECT_EQ(workers.threads(), 1U);
  std::thread::id ran;
  workers.Run(8, [&](size_t thread) {
    EXPECT_EQ(thread, 0U);
    ran = std::this_thread::get_id();
  });
  EXPECT_EQ(ran, std::this_thread::get_id());
  EXPECT_EQ(workers.CpuTime().count(), 0);
}

TEST(WorkerThreadsTest, EachRunsOnceInEachCall) {
  WorkerThreads workers(4);
  for (int call = 0; call < 200; ++call) {
    std::array<std::atomic<int>, 4> runs{};
    workers.Run(4, [&](size_t thread) { ++runs.at(thread); });
    for (const auto& count : runs) ASSERT_EQ(count, 1);
  }
}

TEST(WorkerThreadsTest, NoMoreThanWanted) {
  WorkerThreads workers(4);
  for (const size_t wanted : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{9}}) {
    std::array<std::atomic<int>, 4> runs{};
    workers.Run(wanted, [&](size_t thread) { ++runs.at(thread); });
    for (size_t thread = 0; thread < 4; ++thread) EXPECT_EQ(runs.at(thread), thread < std::max(wanted, size_t{1}));
  }
}

TEST(WorkerThreadsTest, WhatOneThrowsIsThrownOnceAllAreDone) {
  WorkerThreads workers(3);
  for (size_t thrower = 0; thrower < 3; ++thrower) {
    std::atomic<int> done = 0;
    const auto work = [&](size_t thread) {
      if (thread == thrower) throw std::runtime_error("work");
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
      ++done;
    };
    EXPECT_THROW(workers.Run(3, work), std::runtime_error);
    EXPECT_EQ(done, 2);
  }
  EXPECT_NO_THROW(workers.Run(3, [](size_t /*thread*/) {}));
}

TEST(WorkerThreadsTest, CpuTimeIsThatOfTheOthers) {
  WorkerThreads workers(3);
  const auto own_time = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  const auto spend = [&own_time](std::chrono::milliseconds amount) {
    const auto end = own_time() + amount;
    while (own_time() < end) {
    }
  };
  const auto before = workers.CpuTime();
  workers.Run(3, [&](size_t thread) { spend(std::chrono::milliseconds{thread == 0 ? 100 : 10}); });
  const auto spent = workers.CpuTime() - before;
  EXPECT_GE(spent, std::chrono::milliseconds{20});
  EXPECT_LT(spent, std::chrono::milliseconds{100});
}

}  // namespace
}  // namespace cow::collectors

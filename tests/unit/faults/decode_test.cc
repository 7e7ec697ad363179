#include "collectors/faults/decode.h"

#include <gtest/gtest.h>
#include <linux/perf_event.h>

#include <array>
#include <cstring>
#include <string>

#include "tests/unit/faults/perf_bytes.h"

namespace cow::faults {
namespace {

using test::PerfBytes;

constexpr PerfBytes::Moment kMoment{100, 101, 5000, 7};

#if defined(__x86_64__)
constexpr size_t kRegisters = 17;
#else
constexpr size_t kRegisters = 33;
#endif

std::vector<RingRecord> Decode(const PerfBytes& bytes, Stacks stacks = Stacks::kNone) {
  std::vector<RingRecord> records;
  EXPECT_EQ(DecodeRing(bytes.bytes(), stacks, records), 0U);
  return records;
}

template <class Body>
Body Only(const std::vector<RingRecord>& records) {
  EXPECT_EQ(records.size(), 1U);
  if (records.size() != 1 || !std::holds_alternative<Body>(records.front().body)) {
    ADD_FAILURE() << "not the expected record";
    return {};
  }
  EXPECT_EQ(records.front().writer, kMoment.tid);
  EXPECT_EQ(records.front().writer_pid, kMoment.pid);
  EXPECT_EQ(records.front().event_id, kMoment.event);
  EXPECT_EQ(records.front().time_ns(), kMoment.time_ns);
  return std::get<Body>(records.front().body);
}

// A fault as far as its address.
PerfBytes& AddFault(PerfBytes& bytes) {
  return bytes.Add(kMoment.event)
      .Add(uint64_t{0x401000})
      .Add(kMoment.pid)
      .Add(kMoment.tid)
      .Add(kMoment.time_ns)
      .Add(uint64_t{0x7000});
}

FaultRecord ExpectedFault() { return {kMoment.time_ns, kMoment.pid, kMoment.tid, 0x7000, 0x401000, false, {}, {}}; }

TEST(DecodeTest, Faults) {
  PerfBytes bytes;
  bytes.Fault(kMoment, 0x401000, 0x7000);
  EXPECT_EQ(Only<FaultRecord>(Decode(bytes)), ExpectedFault());
  PerfBytes kernel;
  kernel.Fault(kMoment, 0xffffffff81000000, 0x7000, true);
  FaultRecord expected = ExpectedFault();
  expected.ip = 0xffffffff81000000;
  expected.in_kernel = true;
  EXPECT_EQ(Only<FaultRecord>(Decode(kernel)), expected);
}

TEST(DecodeTest, CallChainOfTheUser) {
  PerfBytes bytes;
  AddFault(bytes).Add(uint64_t{6}).Add(static_cast<uint64_t>(PERF_CONTEXT_KERNEL)).Add(uint64_t{0xffffffff81000000});
  bytes.Add(static_cast<uint64_t>(PERF_CONTEXT_USER));
  for (const uint64_t address : {0x401000U, 0x402000U, 0x403000U}) bytes.Add(address);
  bytes.End(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  FaultRecord expected = ExpectedFault();
  expected.chain = {0x401000, 0x402000, 0x403000};
  EXPECT_EQ(Only<FaultRecord>(Decode(bytes, Stacks::kFramePointers)), expected);
}

TEST(DecodeTest, CopiesOfTheStack) {
  PerfBytes bytes;
  AddFault(bytes).Add(uint64_t{PERF_SAMPLE_REGS_ABI_64});
  StackCopy stack;
  for (size_t i = 0; i < kRegisters; ++i) {
    bytes.Add(uint64_t{i + 1});
    stack.registers.push_back(i + 1);
  }
  stack.bytes = "0123456789";
  bytes.Add(uint64_t{16}).Add(std::to_array("012345678901234")).Add(uint64_t{10});
  bytes.End(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  FaultRecord expected = ExpectedFault();
  expected.stack = stack;
  EXPECT_EQ(Only<FaultRecord>(Decode(bytes, Stacks::kDwarf)), expected);
}

TEST(DecodeTest, NoStackOfThreadsWithoutUserRegistersOrWith32Bits) {
  PerfBytes none;
  AddFault(none).Add(uint64_t{PERF_SAMPLE_REGS_ABI_NONE}).Add(uint64_t{0});
  none.End(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  EXPECT_EQ(Only<FaultRecord>(Decode(none, Stacks::kDwarf)), ExpectedFault());
  PerfBytes narrow;
  AddFault(narrow).Add(uint64_t{PERF_SAMPLE_REGS_ABI_32});
  for (size_t i = 0; i < kRegisters; ++i) narrow.Add(uint64_t{i});
  narrow.Add(uint64_t{8}).Add(uint64_t{0}).Add(uint64_t{8}).End(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  EXPECT_EQ(Only<FaultRecord>(Decode(narrow, Stacks::kDwarf)), ExpectedFault());
}

TEST(DecodeTest, ForksExecsAndExits) {
  PerfBytes process;
  process.Fork(kMoment, 200, 200);
  EXPECT_EQ(Only<ForkRecord>(Decode(process)), (ForkRecord{5000, 200, 200, 100, 101, false}));
  PerfBytes thread;
  thread.Fork(kMoment, 100, 201);
  EXPECT_EQ(Only<ForkRecord>(Decode(thread)), (ForkRecord{5000, 100, 201, 100, 101, true}));
  PerfBytes exit;
  exit.Exit(kMoment);
  EXPECT_EQ(Only<ExitRecord>(Decode(exit)), (ExitRecord{5000, 100, 101}));
  PerfBytes exec;
  exec.Exec(kMoment, "postgres");
  EXPECT_EQ(Only<ExecRecord>(Decode(exec)), (ExecRecord{5000, 100}));
}

TEST(DecodeTest, NamesThatNoExecGaveAreSkipped) {
  PerfBytes bytes;
  bytes.Add(kMoment.pid).Add(kMoment.tid).AddText("worker").AddTrailer(kMoment).End(PERF_RECORD_COMM);
  EXPECT_TRUE(Decode(bytes).empty());
}

TEST(DecodeTest, Mappings) {
  const auto begin = [](PerfBytes& bytes) -> PerfBytes& {
    return bytes.Add(kMoment.pid).Add(kMoment.tid).Add(uint64_t{0x7f0000}).Add(uint64_t{0x3000}).Add(uint64_t{0x1000});
  };
  PerfBytes inode;
  begin(inode).Add(uint32_t{8}).Add(uint32_t{1}).Add(uint64_t{77}).Add(uint64_t{3}).Add(uint64_t{5});
  inode.AddText("/usr/lib/libx.so.1").AddTrailer(kMoment).End(PERF_RECORD_MMAP2);
  EXPECT_EQ(Only<MapRecord>(Decode(inode)),
            (MapRecord{5000, 100, 0x7f0000, 0x3000, 0x1000, 8, 1, 77, {}, "/usr/lib/libx.so.1"}));
  PerfBytes build_id;
  std::array<char, 20> id{'\1', '\0', '\2', '\3'};
  begin(build_id).Add(uint8_t{4}).Add(uint8_t{0}).Add(uint16_t{0}).Add(id).Add(uint64_t{5});
  build_id.AddText("/usr/lib/libx.so.1").AddTrailer(kMoment).End(PERF_RECORD_MMAP2, PERF_RECORD_MISC_MMAP_BUILD_ID);
  EXPECT_EQ(Only<MapRecord>(Decode(build_id)), (MapRecord{5000, 100, 0x7f0000, 0x3000, 0x1000, 0, 0, 0,
                                                          std::string("\1\0\2\3", 4), "/usr/lib/libx.so.1"}));
}

TEST(DecodeTest, LossesAndThrottling) {
  PerfBytes lost;
  lost.Lost(kMoment, 12);
  EXPECT_EQ(Only<LostRecord>(Decode(lost)), (LostRecord{5000, 12}));
  PerfBytes samples;
  samples.Add(uint64_t{3}).AddTrailer(kMoment).End(PERF_RECORD_LOST_SAMPLES);
  EXPECT_EQ(Only<LostRecord>(Decode(samples)), (LostRecord{5000, 3}));
  PerfBytes throttle;
  throttle.Add(uint64_t{5000}).Add(uint64_t{7}).Add(uint64_t{8}).AddTrailer(kMoment).End(PERF_RECORD_THROTTLE);
  EXPECT_EQ(Only<ThrottleRecord>(Decode(throttle)), ThrottleRecord{5000});
}

// Every prefix of good records gives the records that it holds as a whole, and one malformed record at most.
TEST(DecodeTest, TruncatedAnywhere) {
  PerfBytes bytes;
  bytes.Fault(kMoment, 1, 2).Fork(kMoment, 200, 200).Exec(kMoment, "x").Exit(kMoment).Lost(kMoment, 1);
  size_t last = 0;
  for (size_t size = 0; size <= bytes.bytes().size(); ++size) {
    std::vector<RingRecord> records;
    const uint64_t malformed = DecodeRing(std::span(bytes.bytes()).first(size), Stacks::kNone, records);
    EXPECT_LE(malformed, 1U);
    EXPECT_GE(records.size(), last);
    last = records.size();
  }
  EXPECT_EQ(last, 5U);
}

TEST(DecodeTest, BodiesShorterThanTheirTypeAreCounted) {
  for (const uint32_t type : {PERF_RECORD_SAMPLE, PERF_RECORD_FORK, PERF_RECORD_EXIT, PERF_RECORD_MMAP2,
                              PERF_RECORD_LOST, PERF_RECORD_LOST_SAMPLES}) {
    PerfBytes bytes;
    bytes.Add(uint32_t{1}).AddTrailer(kMoment).End(type);
    PerfBytes empty;
    empty.End(type);
    for (const PerfBytes* each : {&bytes, &empty}) {
      std::vector<RingRecord> records;
      EXPECT_EQ(DecodeRing(each->bytes(), Stacks::kNone, records), 1U) << type;
      EXPECT_TRUE(records.empty());
    }
  }
}

TEST(DecodeTest, HostileCounts) {
  for (const uint64_t count : {uint64_t{2}, uint64_t{1} << 32U, uint64_t{1} << 61U, ~uint64_t{0}}) {
    PerfBytes chain;
    AddFault(chain).Add(count).Add(uint64_t{1}).End(PERF_RECORD_SAMPLE);
    std::vector<RingRecord> records;
    EXPECT_EQ(DecodeRing(chain.bytes(), Stacks::kFramePointers, records), 1U) << count;
    PerfBytes stack;
    AddFault(stack).Add(uint64_t{PERF_SAMPLE_REGS_ABI_NONE}).Add(count + 15).Add(uint64_t{1}).End(PERF_RECORD_SAMPLE);
    EXPECT_EQ(DecodeRing(stack.bytes(), Stacks::kDwarf, records), 1U) << count;
    EXPECT_TRUE(records.empty());
  }
}

TEST(DecodeTest, ImpossibleLengthsEndTheBatch) {
  for (const uint16_t size : {uint16_t{0}, uint16_t{7}, uint16_t{9999}}) {
    PerfBytes bytes;
    bytes.Fault(kMoment, 1, 2).Fault(kMoment, 3, 4);
    std::vector<std::byte> copy = bytes.bytes();
    std::memcpy(copy.data() + copy.size() / 2 + offsetof(perf_event_header, size), &size, sizeof(size));
    std::vector<RingRecord> records;
    EXPECT_EQ(DecodeRing(copy, Stacks::kNone, records), 1U);
    EXPECT_EQ(records.size(), 1U);
  }
}

TEST(CopyFromRingTest, JoinsBothEnds) {
  std::vector<std::byte> ring(64);
  for (size_t i = 0; i < ring.size(); ++i) ring[i] = static_cast<std::byte>(i);
  std::vector<std::byte> bytes;
  CopyFromRing(ring, 1000, 1050, bytes);  // 1000 is 40 in the ring
  ASSERT_EQ(bytes.size(), 50U);
  for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], static_cast<std::byte>((40 + i) % 64));
}

TEST(CopyFromRingTest, WholeRingAndNothing) {
  const std::vector<std::byte> ring(64);
  std::vector<std::byte> bytes;
  CopyFromRing(ring, 96, 96, bytes);
  EXPECT_TRUE(bytes.empty());
  CopyFromRing(ring, 96, 160, bytes);
  EXPECT_EQ(bytes.size(), 64U);
}

TEST(CopyFromRingTest, ImpossiblePositions) {
  const std::vector<std::byte> ring(64);
  std::vector<std::byte> bytes;
  CopyFromRing(ring, 0, 65, bytes);
  CopyFromRing(ring, 10, 9, bytes);
  CopyFromRing({}, 0, 1, bytes);
  EXPECT_TRUE(bytes.empty());
}

}  // namespace
}  // namespace cow::faults

// Unwinds this process' own stack from copies of registers and stack, as the kernel takes them.
#include "collectors/symbols/unwinder.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "collectors/symbols/symbolizer.h"

namespace cow::symbols {
namespace {

constexpr size_t kCopyBytes = 65528;  // the kernel's maximum

struct Copy {
  std::vector<uint64_t> registers;
  std::string stack;
};

// Copies at most kCopyBytes of this thread's stack, from the stack pointer to its end.
std::string CopyStack(uint64_t pointer) {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  size_t bytes = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &lowest, &bytes);
  pthread_attr_destroy(&attributes);
  const uint64_t end = reinterpret_cast<uint64_t>(lowest) + bytes;
  std::string copy(std::min<size_t>(end - pointer, kCopyBytes), '\0');
  // The kernel may read what a sanitizer forbids to this program.
  const iovec local{copy.data(), copy.size()};
  const iovec remote{reinterpret_cast<void*>(pointer), copy.size()};  // NOLINT(performance-no-int-to-ptr)
  EXPECT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), static_cast<ssize_t>(copy.size()));
  return copy;
}

__attribute__((noinline)) Copy CopyInnermost() {
  ucontext_t context{};
  getcontext(&context);
  Copy copy;
#if defined(__x86_64__)
  for (const int each : {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_RIP, REG_R8,
                         REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15}) {
    copy.registers.push_back(static_cast<uint64_t>(context.uc_mcontext.gregs[each]));
  }
  copy.stack = CopyStack(static_cast<uint64_t>(context.uc_mcontext.gregs[REG_RSP]));
#elif defined(__aarch64__)
  for (const uint64_t each : context.uc_mcontext.regs) copy.registers.push_back(each);
  copy.registers.push_back(context.uc_mcontext.sp);
  copy.registers.push_back(context.uc_mcontext.pc);
  copy.stack = CopyStack(context.uc_mcontext.sp);
#endif
  return copy;
}

volatile int calls = 0;

__attribute__((noinline)) Copy CopyInMiddle() {
  Copy copy = CopyInnermost();
  calls = calls + 1;  // so that the call is no jump
  return copy;
}

__attribute__((noinline)) Copy CopyInOutermost() {
  Copy copy = CopyInMiddle();
  calls = calls + 1;
  return copy;
}

class UnwinderTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(maps_.Add(getpid())); }
  std::vector<uint64_t> Unwind(const Copy& copy) {
    return symbolizer_.Unwind(maps_, getpid(), copy.registers, copy.stack);
  }
  Symbol Caller(uint64_t address) { return symbolizer_.Resolve(maps_.Locate(getpid(), address - 1)); }

  Symbolizer symbolizer_;
  CodeMaps maps_;
};

constexpr const char* kScope = "cow::symbols::(anonymous namespace)::";

TEST_F(UnwinderTest, NamesTheCallers) {
  const std::vector<uint64_t> frames = Unwind(CopyInOutermost());
  ASSERT_GE(frames.size(), 5U);
  EXPECT_EQ(Caller(frames[0]).function, std::string(kScope) + "CopyInnermost()");
  EXPECT_EQ(Caller(frames[1]).function, std::string(kScope) + "CopyInMiddle()");
  EXPECT_EQ(Caller(frames[2]).function, std::string(kScope) + "CopyInOutermost()");
  EXPECT_TRUE(Caller(frames[3]).function.value_or("").ends_with("UnwinderTest_NamesTheCallers_Test::TestBody()"));
  const auto is_main = [this](uint64_t each) { return Caller(each).function == "main"; };
  EXPECT_TRUE(std::any_of(frames.begin(), frames.end(), is_main));
  EXPECT_LT(frames.size(), 64U);
  EXPECT_EQ(symbolizer_.counts().restarts, 0U);
}

TEST_F(UnwinderTest, StopsWhereAThreadBegan) {
  Copy copy;
  std::thread([&copy] { copy = CopyInOutermost(); }).join();
  const std::vector<uint64_t> frames = Unwind(copy);
  ASSERT_GE(frames.size(), 4U);
  EXPECT_LT(frames.size(), 24U);
  EXPECT_NE(Caller(frames.back()).object.find("libc"), std::string::npos);
}

TEST_F(UnwinderTest, StopsWhereTheCopyEnds) {
  Copy copy = CopyInOutermost();
  copy.stack.clear();
  EXPECT_EQ(Unwind(copy).size(), 1U);
  EXPECT_EQ(Unwind(copy).front(), copy.registers[copy.registers.size() == 17 ? 8 : 32]);
}

TEST_F(UnwinderTest, SurvivesWrongRegisters) {
  Copy copy = CopyInOutermost();
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{1} << 63U}) {
    Copy wrong = copy;
    std::fill(wrong.registers.begin(), wrong.registers.end(), value);
    EXPECT_LE(Unwind(wrong).size(), 2U);
  }
  copy.registers.pop_back();
  EXPECT_TRUE(Unwind(copy).empty());
  copy.registers.clear();
  EXPECT_TRUE(Unwind(copy).empty());
  EXPECT_EQ(symbolizer_.counts().restarts, 0U);
}

}  // namespace
}  // namespace cow::symbols

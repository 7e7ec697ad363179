#include "exporter/sandbox/capabilities.h"

#include <sys/prctl.h>

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>

#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::exporter {
namespace {

struct Sets {
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t effective = 0;
  uint64_t bounding = 0;
  uint64_t ambient = 0;

  bool operator==(const Sets&) const = default;
};

Sets ReadSets() {
  Sets sets;
  std::ifstream file("/proc/self/status");
  const std::array<std::pair<const char*, uint64_t*>, 5> fields{{{"CapInh:", &sets.inheritable},
                                                                 {"CapPrm:", &sets.permitted},
                                                                 {"CapEff:", &sets.effective},
                                                                 {"CapBnd:", &sets.bounding},
                                                                 {"CapAmb:", &sets.ambient}}};
  for (std::string word; file >> word;) {
    for (const auto& [name, value] : fields) {
      if (word == name) file >> std::hex >> *value;
    }
  }
  return sets;
}

constexpr uint64_t Bit(int capability) { return uint64_t{1} << static_cast<unsigned>(capability); }

uint64_t ReaderBits() {
  uint64_t bits = 0;
  for (const int each : kReaderCapabilities) bits |= Bit(each);
  return bits;
}

// What remains of the bounding set.
uint64_t Bounded(const Sets& before, uint64_t kept) {
  return (before.effective & Bit(CAP_SETPCAP)) != 0 ? before.bounding & kept : before.bounding;
}

TEST(CapabilitiesTest, KeepsOnlyThose) {
  const Sets before = ReadSets();
  const uint64_t held = before.permitted & ReaderBits();
  const Sets expected{0, held, held, Bounded(before, ReaderBits()), 0};
  EXPECT_EQ(test::InChild([&] {
              KeepOnly(kReaderCapabilities);
              return ReadSets() == expected && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
            }),
            0);
}

TEST(CapabilitiesTest, DropsAll) {
  const Sets before = ReadSets();
  EXPECT_EQ(test::InChild([&] {
              DropAllCapabilities();
              return ReadSets() == Sets{0, 0, 0, Bounded(before, 0), 0} ? 0 : 1;
            }),
            0);
}

TEST(CapabilitiesTest, DropsAllTwice) {
  const Sets before = ReadSets();
  EXPECT_EQ(test::InChild([&] {
              KeepOnly(kReaderCapabilities);
              DropAllCapabilities();
              DropAllCapabilities();
              return ReadSets() == Sets{0, 0, 0, Bounded(before, ReaderBits()), 0} ? 0 : 1;
            }),
            0);
}

#ifndef COW_SANITIZED

// Another thread would keep its capabilities.
TEST(CapabilitiesTest, NeedsOneThread) {
  const int error = test::InChild([] {
    const std::jthread thread([](const std::stop_token& stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
    });
    try {
      DropAllCapabilities();
    } catch (const std::logic_error&) {
      return 0;
    }
    return 1;
  });
  EXPECT_EQ(error, 0);
}

#endif

// As systemd starts a service of another user with AmbientCapabilities=.
TEST(CapabilitiesTest, DropsAmbientOnes) {
  if ((ReadSets().effective & Bit(CAP_NET_ADMIN)) == 0) GTEST_SKIP() << "holds no capability";
  EXPECT_EQ(test::InChild([&] {
              __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
              std::array<__user_cap_data_struct, 2> data{};
              syscall(SYS_capget, &header, data.data());
              data[0].inheritable = data[0].permitted;
              if (syscall(SYS_capset, &header, data.data()) != 0) return 1;
              if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) != 0) return 1;
              if (ReadSets().ambient != Bit(CAP_NET_ADMIN)) return 1;
              DropAllCapabilities();
              const Sets after = ReadSets();
              return after.ambient == 0 && after.inheritable == 0 && after.permitted == 0 ? 0 : 1;
            }),
            0);
}

// A program that uid 0 executes gets the capabilities of the bounding set, unless no_new_privs is set.
TEST(CapabilitiesTest, AProgramGetsNoneBack) {
  EXPECT_EQ(test::InChild([&] {
              KeepOnly({});
              execl("/bin/grep", "grep", "-q", "CapEff:\t0000000000000000", "/proc/self/status", nullptr);
              return 1;
            }),
            0);
}

}  // namespace
}  // namespace cow::exporter

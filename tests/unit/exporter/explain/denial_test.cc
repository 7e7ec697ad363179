// Tests the reasons for a denied file.
#include "collectors/explain/denial.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

namespace cow::explain {
namespace {

Credentials Of(uint32_t user) { return {{user, user, user, user}, {user, user, user, user}, 0, 0}; }

uint64_t Bit(unsigned capability) { return uint64_t{1} << capability; }

DenialFacts Facts(uint32_t own, uint32_t target) {
  DenialFacts facts;
  facts.file = "maps";
  facts.own = Of(own);
  facts.target = Of(target);
  facts.owner = target;
  return facts;
}

TEST(DenialTest, AnotherUser) {
  EXPECT_EQ(DescribeDenial(Facts(65534, 0)),
            "it runs as user 0 and this program as user 65534, without CAP_SYS_PTRACE");
  DenialFacts facts = Facts(7, 7);
  facts.target->users = {7, 8, 7, 8};
  EXPECT_EQ(DescribeDenial(facts),
            "it runs as user 7 (effective: 8, saved: 7) and this program as user 7, without CAP_SYS_PTRACE");
}

TEST(DenialTest, AnotherGroup) {
  DenialFacts facts = Facts(7, 7);
  facts.target->groups = {9, 9, 9, 9};
  EXPECT_EQ(DescribeDenial(facts), "it runs as group 9 and this program as group 7, without CAP_SYS_PTRACE");
}

TEST(DenialTest, NotDumpable) {
  DenialFacts facts = Facts(7, 7);
  facts.owner = 0;
  EXPECT_EQ(DescribeDenial(facts), "it is not dumpable (its files in /proc belong to user 0), without CAP_SYS_PTRACE");
}

TEST(DenialTest, MoreCapabilities) {
  DenialFacts facts = Facts(7, 7);
  facts.target->permitted = Bit(CAP_NET_ADMIN);
  EXPECT_EQ(DescribeDenial(facts), "it has capabilities that this program lacks (0x1000), without CAP_SYS_PTRACE");
}

TEST(DenialTest, APagemapOfAnotherUserNeedsTwoCapabilities) {
  DenialFacts facts = Facts(7, 0);
  facts.file = "pagemap";
  EXPECT_EQ(DescribeDenial(facts),
            "it runs as user 0 and this program as user 7, without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
  facts.own->effective = Bit(CAP_SYS_PTRACE);
  EXPECT_EQ(DescribeDenial(facts), "it runs as user 0 and this program as user 7, without CAP_DAC_READ_SEARCH");
  facts.target = Of(7);
  EXPECT_EQ(DescribeDenial(facts),
            "it is not dumpable (its files in /proc belong to user 0), without CAP_DAC_READ_SEARCH");
}

TEST(DenialTest, AnotherUserNamespace) {
  DenialFacts facts = Facts(0, 0);
  facts.own->effective = Bit(CAP_SYS_PTRACE);
  facts.outside_user_namespace = true;
  EXPECT_EQ(DescribeDenial(facts), "it is in another user namespace, where this program's capabilities do not count");
}

TEST(DenialTest, OnlyASecurityModuleIsLeft) {
  DenialFacts facts = Facts(0, 7);
  facts.own->effective = Bit(CAP_SYS_PTRACE);
  EXPECT_EQ(DescribeDenial(facts), "users, groups and capabilities allow it, so a security module denies it");
  facts.modules = "capability,apparmor";
  EXPECT_EQ(DescribeDenial(facts),
            "users, groups and capabilities allow it, so a security module denies it (active: capability,apparmor)");
}

TEST(DenialTest, HiddenProcesses) {
  DenialFacts facts = Facts(7, 0);
  facts.file = "stat";
  facts.target.reset();
  EXPECT_EQ(DescribeDenial(facts), "its status can't be read, so the reason is unknown");
  facts.hidepid = "noaccess";
  EXPECT_EQ(DescribeDenial(facts), "/proc is mounted with hidepid=noaccess, which hides processes of other users");
}

}  // namespace
}  // namespace cow::explain

// Renders hand-made reports of writers as text, JSON, collapsed stacks and a profile, and checks the advice.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "exporter/writers/advice.h"
#include "exporter/writers/formats.h"
#include "exporter/writers/words.h"

namespace cow::exporter {
namespace {

using writers::Report;
using writers::Side;

symbols::Symbol Code(const std::string& function, const std::string& object, uint64_t offset = 0x10) {
  symbols::Symbol code;
  code.kind = symbols::Symbol::Kind::kUser;
  if (!function.empty()) code.function = function;
  code.object = object;
  code.offset = offset;
  code.build_id = "abc1";
  return code;
}

Report Collected() {
  Report report;
  report.pid = 42;
  report.page_bytes = 4096;
  report.members = 3;
  report.seconds = 10.02;
  report.writers = {{{Code("gc_collect_main", "/usr/bin/python3.11"), Code("main", "/usr/bin/python3.11")},
                     Side::kChild,
                     memory::MappingKind::kAnon,
                     9144,
                     9144},
                    {{Code("", "/usr/lib/libx.so", 0x1a2b)}, Side::kParent, memory::MappingKind::kHeap, 560, 560}};
  report.broken_pages = 9728;
  report.unexplained_pages = 24;
  report.records = 9800;
  report.attributed_records = 9704;
  report.repeated_records = 5;
  report.fresh_records = {90, 1, 0, 0, 0, 0};
  report.lost_records = 30;
  return report;
}

TEST(WritersText, SaysWhoAndWhatHelps) {
  EXPECT_EQ(WritersSentence(Collected()),
            "38 MiB broken in 10 s, 94 % by gc_collect_main in python3.11, called by the children: gc.freeze() before "
            "the fork would keep them shared.");
  const std::string text = RenderWriters(Collected());
  EXPECT_NE(text.find("    36 MiB   94 %  child   anon     gc_collect_main  python3.11\n"), std::string::npos) << text;
  EXPECT_NE(text.find("   2.2 MiB    6 %  parent  heap     libx.so+0x1a2b  build id abc1\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("    96 KiB   <1 %  unexplained: no record of a fault\n"), std::string::npos) << text;
  EXPECT_NE(text.find("9800 page faults: 9704 broke a page, 5 repeated, 91 broke nothing (first touched 90, zero page "
                      "first written 1).\n30 records were lost"),
            std::string::npos)
      << text;
}

TEST(WritersText, SaysThatNothingWasBroken) {
  Report report;
  report.seconds = 2;
  report.members = 1;
  EXPECT_EQ(WritersSentence(report), "Nothing was broken in 2 s: no other process shares this memory by fork.");
  report.members = 2;
  EXPECT_EQ(WritersSentence(report), "Nothing was broken in 2 s.");
}

TEST(WritersText, DoesNotCallUnjudgedFaultsBreaks) {
  Report report = Collected();
  report.judged = false;
  for (auto& writer : report.writers) writer.pages = 0;
  EXPECT_EQ(WritersSentence(report).find("broken"), std::string::npos);
  EXPECT_NE(WritersSentence(report).find("it is not known which of them broke a page"), std::string::npos);
}

TEST(WritersJsonTest, HasTheFieldsOfTheContract) {
  const auto json = nlohmann::json::parse(WritersJson(Collected()));
  EXPECT_EQ(json["one_in"], 1);
  EXPECT_EQ(json["lost_records"], 30);
  EXPECT_EQ(json["unexplained_pages"], 24);
  ASSERT_EQ(json["writers"].size(), 2U);
  EXPECT_EQ(json["writers"][0]["function"], "gc_collect_main");
  EXPECT_TRUE(json["writers"][1]["function"].is_null());
  EXPECT_EQ(json["writers"][1]["object"], "/usr/lib/libx.so");
  EXPECT_EQ(json["writers"][1]["offset"], "0x1a2b");
  EXPECT_EQ(json["writers"][1]["build_id"], "abc1");
  EXPECT_EQ(json["writers"][1]["side"], "parent");
  EXPECT_EQ(json["writers"][1]["mapping"], "heap");
  EXPECT_EQ(json["writers"][1]["pages"], 560);
  EXPECT_EQ(json["writers"][1]["bytes"], 560 * 4096);
}

TEST(WritersFoldedTest, WeighsStacksInBytes) {
  Report report = Collected();
  report.writers[0].frames[0].function = "a;b c";
  EXPECT_EQ(WritersFolded(report), "child;main;a:b c 37453824\nparent;libx.so+0x1a2b 2293760\n");
}

TEST(WritersPprofTest, IsTheSameForTheSameReport) {
  const std::string profile = WritersPprof(Collected(), std::chrono::system_clock::time_point());
  EXPECT_NE(profile.find("gc_collect_main"), std::string::npos);
  EXPECT_EQ(profile, WritersPprof(Collected(), std::chrono::system_clock::time_point()));
}

TEST(WritersAdvice, OnlyForKnownCode) {
  EXPECT_NE(FindAdvice(Code("gc_collect_main.constprop.0", "/usr/bin/python3.11")), nullptr);
  EXPECT_EQ(FindAdvice(Code("gc_collect_main", "/usr/bin/other")), nullptr);
  EXPECT_EQ(FindAdvice(Code("main", "/usr/bin/python3.11")), nullptr);
  EXPECT_EQ(FindAdvice(Code("", "/usr/bin/python3.11")), nullptr);
  EXPECT_NE(FindAdvice(Code("", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")), nullptr);
  symbols::Symbol jit = Code("gc_collect_main", "/usr/bin/python3.11");
  jit.kind = symbols::Symbol::Kind::kJit;
  EXPECT_EQ(FindAdvice(jit), nullptr);
}

// The anchor that Markdown gives to a heading.
std::string AnchorOf(const std::string& heading) {
  std::string anchor;
  for (const char c : heading) {
    if (c == ' ') anchor += '-';
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-') {
      anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return anchor;
}

TEST(WritersAdvice, EachHasASectionInTheRecipes) {
  std::ifstream file(COW_RECIPES);
  ASSERT_TRUE(file);
  std::vector<std::string> anchors;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("### ")) anchors.push_back(AnchorOf(line.substr(4)));
  }
  for (const Advice& advice : AllAdvice()) {
    EXPECT_NE(std::find(anchors.begin(), anchors.end(), advice.recipe), anchors.end()) << advice.recipe;
  }
}

}  // namespace
}  // namespace cow::exporter

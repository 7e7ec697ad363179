#include "exporter/writers/words.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/explain/words.h"
#include "exporter/writers/advice.h"

namespace cow::exporter {
namespace {

using writers::Report;
using writers::Side;
using writers::Writer;

constexpr size_t kMaxLines = 30;

std::string_view FileName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string Percent(uint64_t part, uint64_t whole) {
  if (part == 0 || whole == 0) return "0 %";
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  if (percent < 1) return "<1 %";
  if (percent > 99 && part != whole) return ">99 %";
  return std::to_string(std::lround(percent)) + " %";
}

std::string Seconds(double seconds) {
  std::array<char, 32> text{};
  const bool whole = std::abs(seconds - std::round(seconds)) < 0.05;
  std::snprintf(text.data(), text.size(), whole ? "%.0f s" : "%.1f s", seconds);
  return text.data();
}

std::string Left(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string Right(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

// The part that counts: pages, or records if nothing was judged.
uint64_t Weight(const Report& report, const Writer& writer) { return report.judged ? writer.pages : writer.records; }

// The code with the most weight on all sides and in all mappings, by its purpose.
struct Main {
  symbols::Symbol code;
  uint64_t weight = 0;
  uint64_t parent_weight = 0;
};
Main FindMain(const Report& report) {
  std::map<std::pair<std::string, std::string>, Main> by_code;
  for (const Writer& writer : MergeCallers(report)) {
    const symbols::Symbol& code = writer.frames.back();
    Main& found = by_code.try_emplace({CodeName(code), code.object}, Main{code}).first->second;
    const uint64_t weight = Weight(report, writer);
    found.weight += weight;
    if (writer.side == Side::kParent) found.parent_weight += weight;
  }
  const auto most = std::max_element(by_code.begin(), by_code.end(),
                                     [](const auto& a, const auto& b) { return a.second.weight < b.second.weight; });
  return most == by_code.end() ? Main{} : most->second;
}

std::string CalledBy(const Report& report, const Main& main) {
  const std::string children = report.members > 2 ? "the children" : "the child";
  if (main.parent_weight == 0) return "called by " + children;
  if (main.parent_weight == main.weight) return "called by the parent";
  return "called by the parent and " + children;
}

std::string InObject(const symbols::Symbol& code) {
  if (!code.function) return "";
  if (code.kind == symbols::Symbol::Kind::kKernel) return " in the kernel";
  return code.object.empty() ? "" : " in " + Printable(FileName(code.object));
}

std::string Object(const symbols::Symbol& code) {
  if (!code.function) return code.build_id.empty() ? "" : "build id " + code.build_id;
  return code.kind == symbols::Symbol::Kind::kKernel ? "kernel" : Printable(FileName(code.object));
}

std::string Table(const Report& report) {
  const std::vector<Writer> all = MergeCallers(report);
  uint64_t whole = report.judged ? report.broken_pages : report.records;
  std::string text =
      report.judged ? "     BYTES  SHARE  SIDE    MAPPING  FUNCTION\n" : "   RECORDS  SHARE  SIDE    FUNCTION\n";
  uint64_t rest = 0;
  size_t lines = 0;
  for (const Writer& writer : all) {
    const uint64_t weight = Weight(report, writer);
    if (weight == 0) continue;
    if (lines++ >= kMaxLines) {
      rest += weight;
      continue;
    }
    const std::string size = report.judged ? HumanBytes(weight * report.page_bytes) : std::to_string(weight);
    text +=
        Right(size, 10) + "  " + Right(Percent(weight, whole), 5) + "  " + Left(std::string(SideName(writer.side)), 8);
    if (report.judged) text += Left(std::string(MappingKindName(writer.mapping)), 9);
    text += CodeName(writer.code()) + "  " + Object(writer.code());
    if (writer.frames.size() > 1) text += "  for " + CodeName(writer.frames.back());
    text += "\n";
  }
  if (rest > 0) {
    const std::string size = report.judged ? HumanBytes(rest * report.page_bytes) : std::to_string(rest);
    text += Right(size, 10) + "  " + Right(Percent(rest, whole), 5) + "  by " + std::to_string(lines - kMaxLines) +
            " others\n";
  }
  if (report.unexplained_pages > 0) {
    text += Right(HumanBytes(report.unexplained_pages * report.page_bytes), 10) + "  " +
            Right(Percent(report.unexplained_pages, whole), 5) + "  unexplained: no record of a fault\n";
  }
  return text;
}

std::string Counts(const Report& report) {
  constexpr std::array<const char*, writers::kFreshKinds> kNames{
      "first touched",           "zero page first written", "file page mapped",
      "file page first written", "shared mapping",          "not judged: ended or unmapped before a look"};
  const uint64_t fresh = std::accumulate(report.fresh_records.begin(), report.fresh_records.end(), uint64_t{0});
  std::string text = std::to_string(report.records) + " page faults: " + std::to_string(report.attributed_records) +
                     " broke a page, " + std::to_string(report.repeated_records) + " repeated, " +
                     std::to_string(fresh) + " broke nothing";
  const char* mark = " (";
  for (size_t kind = 0; kind < kNames.size(); ++kind) {
    if (report.fresh_records.at(kind) == 0) continue;
    text += mark + std::string(kNames.at(kind)) + " " + std::to_string(report.fresh_records.at(kind));
    mark = ", ";
  }
  if (fresh > 0) text += ")";
  return text + ".\n";
}

// Advice on writers of at least 1 % of the breaks, the largest first.
std::string AllAdviceOn(const Report& report) {
  std::map<const Advice*, uint64_t> pages;
  for (const Writer& writer : MergeCallers(report)) {
    if (const Advice* advice = FindAdvice(writer.frames.back())) pages[advice] += writer.pages;
  }
  std::vector<std::pair<uint64_t, const Advice*>> ordered;
  for (const auto& [advice, broken] : pages) {
    if (broken > 0 && broken >= report.broken_pages / 100) ordered.emplace_back(broken, advice);
  }
  std::sort(ordered.begin(), ordered.end(), std::greater<>());
  std::string text;
  for (const auto& [broken, advice] : ordered) {
    text += std::string(advice->who) + ": " + std::string(advice->remedy) + ". See deploy/RECIPES.md#" +
            std::string(advice->recipe) + "\n";
  }
  return text;
}

}  // namespace

std::string CodeName(const symbols::Symbol& code) {
  if (code.function) return Printable(*code.function);
  const std::string object = Printable(FileName(code.object));
  return (object.empty() ? "unknown" : object) + "+0x" + Hex(code.offset);
}

std::string_view SideName(Side side) {
  constexpr std::array<std::string_view, writers::kSides> kNames{"parent", "child", "unknown"};
  return kNames.at(static_cast<size_t>(side));
}

std::string WritersSentence(const Report& report) {
  const std::string in = " in " + Seconds(report.seconds);
  if (!report.judged) {
    if (report.records == 0) return "No page faults" + in + ".";
    const Main main = FindMain(report);
    return std::to_string(report.records) + " page faults" + in + ", " + Percent(main.weight, report.records) + " by " +
           CodeName(main.code) + InObject(main.code) +
           "; without frame numbers it is not known which of them broke a page.";
  }
  if (report.broken_pages == 0) {
    if (report.members < 2) return "Nothing was broken" + in + ": no other process shares this memory by fork.";
    return "Nothing was broken" + in + ".";
  }
  std::string text = HumanBytes(report.broken_pages * report.page_bytes) + " broken" + in;
  const Main main = FindMain(report);
  if (main.weight == 0) return text + "; no record of a fault explains it.";
  text += ", " + Percent(main.weight, report.broken_pages) + " by " + CodeName(main.code) + InObject(main.code) + ", " +
          CalledBy(report, main);
  if (const Advice* advice = FindAdvice(main.code)) text += ": " + std::string(advice->remedy);
  return text + ".";
}

std::string RenderWriters(const Report& report) {
  std::string text = WritersSentence(report) + "\n";
  if (report.ended) text += "The process ended while it was watched.\n";
  if (!report.writers.empty() || report.unexplained_pages > 0) text.append("\n").append(Table(report));
  text += "\n";
  if (report.judged) text += Counts(report);
  if (report.lost_records > 0) {
    text += std::to_string(report.lost_records) + " records were lost, so some breaks have no writer.\n";
  }
  if (report.unwatched_threads > 0) {
    text += std::to_string(report.unwatched_threads) +
            " threads could not be watched: each needs a descriptor per CPU, and the limit of open files is too low.\n";
  }
  if (!report.kernel_faults) {
    text += "Faults that system calls cause are not recorded without CAP_PERFMON or CAP_SYS_ADMIN.\n";
  }
  if (const std::string advice = AllAdviceOn(report); !advice.empty()) text.append("\n").append(advice);
  return text;
}

}  // namespace cow::exporter

#include "exporter/explain/words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <initializer_list>

namespace cow::exporter {
namespace {

using explain::MemberPortrait;
using explain::PageState;
using explain::Portrait;

std::string Pages(const Portrait& portrait, uint64_t pages) { return HumanBytes(pages * portrait.page_bytes); }

// Names for the first member and the others.
struct Others {
  explicit Others(const Portrait& portrait) : count(portrait.members.size() - 1) {
    const pid_t root = portrait.members.front().pid;
    are_children = std::all_of(portrait.members.begin() + 1, portrait.members.end(),
                               [root](const MemberPortrait& member) { return member.parent == root; });
  }

  std::string First() const { return are_children ? "the parent" : "the oldest"; }
  std::string Rest() const {
    if (are_children) return count == 1 ? "the child" : "the children";
    return count == 1 ? "the other" : "the others";
  }
  std::string WroteAll() const {
    if (count == 1) return Rest() + " wrote all it shares";
    if (!are_children) return "all others wrote all they share";
    if (count == 2) return "both children wrote all they share";
    return "all " + std::to_string(count) + " children wrote all they share";
  }

  size_t count;
  bool are_children = false;
};

std::string Share(uint64_t part, uint64_t whole) {
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  if (part == whole) return "all";
  if (percent < 1) return "less than 1 %";
  if (percent > 99) return "more than 99 %";
  return std::to_string(std::lround(percent)) + " %";
}

std::string InTenths(uint64_t part, uint64_t whole, const std::string& who) {
  if (part == whole) return "all by " + who;
  if (2 * part == whole) return "half by " + who;
  const auto tenths = std::lround(10.0 * static_cast<double>(part) / static_cast<double>(whole));
  if (tenths >= 10) return "nearly all by " + who;
  return "about " + std::to_string(tenths) + " in 10 by " + who;
}

std::string BySide(const Portrait& portrait, const Others& others) {
  const uint64_t all = portrait.BrokenPages();
  const uint64_t first = portrait.members.front().broken_pages;
  return 2 * first >= all ? InTenths(first, all, others.First()) : InTenths(all - first, all, others.Rest());
}

std::string Where(const Portrait& portrait) {
  constexpr std::array<const char*, memory::kMappingKinds> kPlaces{"in the heap", "in the stack",
                                                                   "in anonymous mappings", "in private file mappings",
                                                                   "in private mappings of shared memory"};
  const uint64_t all = portrait.BrokenPages();
  const auto most = std::max_element(portrait.broken_by_kind.begin(), portrait.broken_by_kind.end());
  const std::string place = kPlaces.at(static_cast<size_t>(most - portrait.broken_by_kind.begin()));
  if (*most == all) return ", all " + place;
  return 2 * *most > all ? ", mostly " + place : "";
}

std::string Copied(const Portrait& portrait, const Others& others) {
  const uint64_t copied = portrait.BrokenPages();
  if (copied == 0) {
    const bool can_tell = portrait.marks_known && portrait.exposure_pages > 0;
    return can_tell ? " Nothing of what was shared at fork is known to be copied." : "";
  }
  return " " + Pages(portrait, copied) + " was copied already (" + Share(copied, copied + portrait.exposure_pages) +
         " of what was shared at fork and is still mapped), " + BySide(portrait, others) + Where(portrait) + ".";
}

std::string OfSingle(const Portrait& portrait) {
  const explain::PageSums& sums = portrait.members.front().sums;
  if (portrait.unseen_pages > 0) {
    return Pages(portrait, portrait.unseen_pages) + " is shared with processes that can't be seen from here.";
  }
  std::string text = "No other process shares its anonymous memory";
  if (const uint64_t left = sums.Of(PageState::kUnshared); left > 0) {
    text += "; " + Pages(portrait, left) + " of it was once shared by fork";
  }
  return text + ".";
}

std::string WithoutFrames(const Portrait& portrait) {
  const MemberPortrait* asked = portrait.Find(portrait.pid);
  if (asked == nullptr) return "";
  const uint64_t shared = asked->sums.Of(PageState::kShared);
  const uint64_t unknown = asked->sums.Of(PageState::kUnknown);
  const std::string name = "process " + std::to_string(portrait.pid);
  if (unknown > 0) return Pages(portrait, unknown) + " of " + name + " is shared by fork, or the zero page.";
  if (shared == 0) return "No other process maps the anonymous memory of " + name + ", as the kernel counts.";
  return Pages(portrait, shared) + " of " + name +
         " is mapped by another process too, as the kernel counts: a write there copies.";
}

std::string OfFamily(const Portrait& portrait) {
  const Others others(portrait);
  const bool some_unread =
      std::any_of(portrait.members.begin(), portrait.members.end(), [](const auto& member) { return member.unread; });
  std::string text;
  if (portrait.exposure_pages == 0) {
    text = "These " + std::to_string(portrait.members.size()) + " processes share nothing.";
  } else {
    text = (some_unread ? "At least " : "") + Pages(portrait, portrait.exposure_pages) + " would be copied if " +
           others.WroteAll() + ".";
  }
  text += Copied(portrait, others);
  if (portrait.unattributed_pages > 0) {
    text += " " + Pages(portrait, portrait.unattributed_pages) + " differs between them: copied, or never shared.";
  }
  if (portrait.unseen_pages > 0) {
    text += " " + Pages(portrait, portrait.unseen_pages) + " is shared with processes that can't be seen from here.";
  }
  return text;
}

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes == 0) return "0";
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  const double tenths = std::round(value * 10) / 10;
  const bool decimal = unit > 0 && tenths < 10 && tenths != std::floor(tenths);
  std::snprintf(text.data(), text.size(), decimal ? "%.1f %s" : "%.0f %s", value, kUnits.at(unit));
  return text.data();
}

std::string Hex(uint64_t address) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), address, 16).ptr;
  return {digits.data(), end};
}

std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return printable;
}

std::string Summary(const Portrait& portrait) {
  if (portrait.members.empty()) return "";
  if (!portrait.frames_known) return WithoutFrames(portrait);
  return portrait.members.size() == 1 ? OfSingle(portrait) : OfFamily(portrait);
}

std::string SinceLastLook(const Portrait& portrait) {
  if (!portrait.since_last_look) return "";
  const explain::Breaks& breaks = *portrait.since_last_look;
  if (breaks.pages == 0) return "Since the last look nothing was copied.";
  std::string text = "Since the last look " + Pages(portrait, breaks.pages) + " was copied";
  const char* mark = ": ";
  for (const MemberPortrait& member : portrait.members) {
    if (member.broken_since_last_look == 0) continue;
    text += mark + Pages(portrait, member.broken_since_last_look) + " by " + std::to_string(member.pid);
    mark = ", ";
  }
  if (breaks.of_unknown_side > 0) {
    text += mark + Pages(portrait, breaks.of_unknown_side) + " by an unknown side";
  }
  return text + ".";
}

std::vector<std::string> Limits(const Portrait& portrait) {
  std::vector<std::string> limits;
  if (portrait.asked != 0 && portrait.asked != portrait.pid) {
    limits.push_back("Process " + std::to_string(portrait.asked) + " has the same memory as " +
                     std::to_string(portrait.pid) + " (vfork or CLONE_VM), which stands for both.");
  }
  if (!portrait.frames_known) {
    limits.emplace_back(
        "Frame numbers are hidden from this user: CAP_SYS_ADMIN is needed to see who shares a page and who copied "
        "one. Copied and original pages are known in private file mappings only.");
    if (!portrait.zero_known) {
      limits.emplace_back("Before Linux 6.7, the zero page looks like shared memory without frame numbers.");
    }
  } else if (!portrait.marks_known) {
    limits.emplace_back(
        "The kernel's page marks can't be read (they need Linux 5.19 and /proc/kpageflags): pages copied before this "
        "look count as unattributed.");
  }
  if (portrait.frames_known && portrait.marks_known && portrait.swap_hides_copies && portrait.unattributed_pages > 0) {
    limits.emplace_back(
        "This host has read pages back from swap, and these processes had major faults. Pages copied before this look "
        "can't be told from pages that came back, so both count as unattributed. --watch shows new copies.");
  }
  for (const MemberPortrait& member : portrait.members) {
    if (member.unread) {
      limits.push_back("Process " + std::to_string(member.pid) + " could not be read: " +
                       (member.unread_detail.empty() ? member.unread_reason : member.unread_detail) + ".");
    }
  }
  if (portrait.unstable_pages > 0) {
    limits.push_back(std::to_string(portrait.unstable_pages) +
                     " pages kept changing during the read: their state may be outdated.");
  }
  return limits;
}

std::string AlsoHas(const Portrait& portrait) {
  const MemberPortrait* asked = portrait.Find(portrait.pid);
  if (asked == nullptr) return "";
  const auto list = [&](std::initializer_list<PageState> states) {
    std::string text;
    for (const PageState state : states) {
      const uint64_t pages = asked->sums.Of(state);
      if (pages == 0) continue;
      if (!text.empty()) text += ", ";
      text.append(PageStateName(state, false)).append(" ").append(Pages(portrait, pages));
    }
    return text;
  };
  std::string text;
  const std::string others =
      list({PageState::kMerged, PageState::kSwapped, PageState::kFile, PageState::kUnresolved, PageState::kUnknown});
  if (!others.empty()) text = "Process " + std::to_string(portrait.pid) + " also has: " + others + ".";
  const std::string parts = list({PageState::kUnshared, PageState::kUnattributed});
  if (parts.empty()) return text;
  return text + (text.empty() ? "" : " ") + "Of its private memory: " + parts + ".";
}

std::string TimeText(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

std::string Permissions(const procfs::Vma& vma) {
  return {vma.readable ? 'r' : '-', vma.writable ? 'w' : '-', vma.executable ? 'x' : '-', vma.shared ? 's' : 'p'};
}

std::string_view MappingKindName(memory::MappingKind kind) {
  constexpr std::array<std::string_view, memory::kMappingKinds> kNames{"heap", "stack", "anon", "file", "shmem"};
  return kNames.at(static_cast<size_t>(kind));
}

}  // namespace cow::exporter

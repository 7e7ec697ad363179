#include "exporter/explain/terminal.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

using explain::MappingPortrait;
using explain::MemberPortrait;
using explain::PageRun;
using explain::PageState;
using explain::PageSums;
using explain::Portrait;

constexpr size_t kMinWidth = 40;
constexpr size_t kColumn = 9;     // "1023 MiB" and a space
constexpr size_t kMinLabel = 17;  // the rest of 80 columns
constexpr size_t kMaxLabel = 48;
constexpr size_t kMaxMappings = 12;

constexpr const char* kBold = "1";
constexpr const char* kGreen = "32";
constexpr const char* kRed = "31";
constexpr const char* kBlue = "34";

// A cell of a table.
struct Value {
  const char* name;
  uint64_t pages;
};

std::array<Value, 7> Values(const PageSums& sums) {
  return {{{"resident", sums.Resident()},
           {"shared", sums.Of(PageState::kShared)},
           {"broken", sums.Of(PageState::kCopied)},
           {"kept", sums.Of(PageState::kOriginal)},
           {"private", sums.Fresh()},
           {"zero", sums.Of(PageState::kZero)},
           {"huge", sums.huge}}};
}

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  return upper;
}

// Columns of a UTF-8 text; assumes one column per character.
size_t Columns(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

std::string Left(std::string text, size_t width) {
  const size_t columns = Columns(text);
  if (columns < width) text.append(width - columns, ' ');
  return text;
}

std::string Right(const std::string& text, size_t width) {
  return std::string(width - std::min(width, Columns(text)), ' ') + text;
}

class Renderer {
 public:
  Renderer(const Portrait& portrait, const TerminalStyle& style)
      : portrait_(portrait), style_(style), width_(std::max(style.width, kMinWidth)) {
    const size_t cells = Values({}).size() * kColumn;
    if (width_ >= cells + kMinLabel) label_ = std::min(width_ - cells, kMaxLabel);
  }

  std::string Render() {
    Paragraph(Summary(portrait_));
    Paragraph(SinceLastLook(portrait_));
    Blank();
    Family();
    if (portrait_.has_pages) {
      Pages();
    } else {
      Mappings();
    }
    for (const std::string& limit : Limits(portrait_)) Paragraph(limit);
    return std::move(out_);
  }

 private:
  bool IsTable() const { return label_ > 0; }
  void Blank() { out_ += '\n'; }

  std::string Paint(std::string text, const char* colour) const {
    if (!style_.colour || text.empty()) return text;
    return std::string("\x1b[").append(colour).append("m").append(text).append("\x1b[0m");
  }

  // Wraps words at the width. Indents the first line by `indent`, the others by `hanging`.
  void Paragraph(std::string_view text, const std::string& indent = "", const std::string& hanging = "") {
    std::string line = indent;
    bool has_word = false;
    while (!text.empty()) {
      const size_t end = std::min(text.find(' '), text.size());
      const std::string_view word = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (has_word && Columns(line) + 1 + Columns(word) > width_) {
        out_.append(line).append("\n");
        line = hanging;
        has_word = false;
      }
      if (has_word) line += ' ';
      line += word;
      has_word = true;
    }
    if (has_word) out_.append(line).append("\n");
  }

  std::string Cut(std::string text, size_t width) const {
    if (text.size() <= width) return text;
    text.resize(width > 0 ? width - 1 : 0);
    return text + "~";
  }

  void Heading(const std::string& title) {
    std::string line = Left(Cut(title, IsTable() ? label_ - 1 : width_), label_);
    if (IsTable()) {
      for (const Value& value : Values({})) line += Right(Upper(value.name), kColumn);
    }
    while (line.ends_with(' ')) line.pop_back();
    out_ += Paint(line, kBold) + "\n";
  }

  // Writes a label with its values: in columns, or below the label on a narrow terminal.
  void Row(const std::string& label, const PageSums& sums) {
    if (IsTable()) {
      out_ += Left(label, label_);
      for (const Value& value : Values(sums)) out_ += Right(HumanBytes(value.pages * portrait_.page_bytes), kColumn);
      Blank();
      return;
    }
    if (!label.empty()) out_ += label + "\n";
    std::string text;
    for (const Value& value : Values(sums)) {
      if (value.pages == 0) continue;
      if (!text.empty()) text += ", ";
      text.append(value.name).append(" ").append(HumanBytes(value.pages * portrait_.page_bytes));
    }
    Paragraph(text.empty() ? "nothing resident" : text, "    ", "    ");
  }

  void Family() {
    Heading("PROCESS");
    for (const MemberPortrait& member : portrait_.members) {
      const bool is_top = std::none_of(portrait_.members.begin(), portrait_.members.end(),
                                       [&member](const MemberPortrait& other) { return other.pid == member.parent; });
      if (is_top) Member(member, "", "");
    }
    Blank();
  }

  // `prefix` begins the member's own line, `below` the lines of its children.
  void Member(const MemberPortrait& member, const std::string& prefix, const std::string& below) {
    const std::string name = std::to_string(member.pid).append(" ").append(Printable(member.name));
    const size_t room = (IsTable() ? label_ - 1 : width_) - std::min(Columns(prefix), kMinLabel - 2);
    const std::string label = prefix + Cut(name, room);
    if (member.unread) {
      out_ += label + " (not readable: " + member.unread_reason + ")\n";
    } else {
      Row(label, member.sums);
    }
    std::vector<const MemberPortrait*> children;
    for (const MemberPortrait& other : portrait_.members) {
      if (other.parent == member.pid && other.pid != member.pid) children.push_back(&other);
    }
    // Stop indenting here to leave room for the names.
    const bool is_deep = Columns(below) >= kMinLabel / 2;
    for (const MemberPortrait* child : children) {
      const bool is_last = child == children.back();
      const std::string branch = style_.unicode ? (is_last ? "└ " : "├ ") : (is_last ? "`-" : "|-");
      const std::string line = style_.unicode ? "│ " : "| ";
      if (is_deep) {
        Member(*child, below, below);
      } else {
        Member(*child, below + branch, below + (is_last ? "  " : line));
      }
    }
  }

  std::string MappingName(const MappingPortrait& mapping) const {
    const procfs::Vma& vma = mapping.mapping.vma;
    const std::string path =
        vma.path.empty() ? std::string(MappingKindName(mapping.mapping.kind)) : Printable(vma.path);
    return Hex(vma.start) + "-" + Hex(vma.end) + " " + Permissions(vma) + " " + path;
  }

  static uint64_t BrokenPages(const MappingPortrait& mapping) {
    return mapping.sums.Of(PageState::kCopied) + mapping.sums.Of(PageState::kOriginal);
  }

  // Mappings with anonymous, private or shared pages, largest exposure first.
  std::vector<const MappingPortrait*> RelevantMappings() const {
    std::vector<const MappingPortrait*> mappings;
    for (const MappingPortrait& mapping : portrait_.mappings) {
      const PageSums& sums = mapping.sums;
      const uint64_t pages = sums.Private() + sums.Of(PageState::kShared) + sums.Of(PageState::kUnknown) +
                             sums.Of(PageState::kZero) + sums.Of(PageState::kMerged);
      if (pages > 0) mappings.push_back(&mapping);
    }
    const auto key = [](const MappingPortrait& mapping) {
      const PageSums& sums = mapping.sums;
      return std::tuple(mapping.exposure_pages, sums.Of(PageState::kShared), BrokenPages(mapping), sums.Private());
    };
    std::stable_sort(mappings.begin(), mappings.end(),
                     [&key](const auto* a, const auto* b) { return key(*a) > key(*b); });
    return mappings;
  }

  std::string Bar(const MappingPortrait& mapping) const {
    struct Part {
      uint64_t pages;
      const char* unicode;
      const char* ascii;
      const char* colour;
    };
    const std::array<Part, 3> parts{{{mapping.sums.Of(PageState::kShared), "█", "#", kGreen},
                                     {BrokenPages(mapping), "▓", "x", kRed},
                                     {mapping.sums.Fresh(), "░", ".", kBlue}}};
    const size_t cells = IsTable() ? label_ - 3 : std::min<size_t>(width_ - 4, kMaxLabel);
    uint64_t all = 0;
    for (const Part& part : parts) all += part.pages;
    if (all == 0) return IsTable() ? "  " : "    ";
    std::array<size_t, 3> lengths{};
    size_t used = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      lengths[i] = static_cast<size_t>(parts[i].pages * cells / all);
      if (parts[i].pages > 0 && lengths[i] == 0) lengths[i] = 1;  // show it
      used += lengths[i];
    }
    size_t& longest = *std::max_element(lengths.begin(), lengths.end());
    longest = used > cells ? longest - (used - cells) : longest + (cells - used);
    std::string bar = IsTable() ? "  " : "    ";
    for (size_t i = 0; i < parts.size(); ++i) {
      std::string cell;
      for (size_t n = 0; n < lengths[i]; ++n) cell += style_.unicode ? parts[i].unicode : parts[i].ascii;
      bar += Paint(cell, parts[i].colour);
    }
    return bar + (IsTable() ? " " : "");
  }

  void Mappings() {
    const std::vector<const MappingPortrait*> mappings = RelevantMappings();
    if (mappings.empty()) return;
    const std::string title = "MAPPINGS OF " + std::to_string(portrait_.pid);
    Heading(IsTable() && title.size() >= label_ ? "MAPPINGS" : title);
    for (size_t i = 0; i < mappings.size() && i < kMaxMappings; ++i) {
      out_ += Cut(MappingName(*mappings[i]), width_) + "\n";
      const std::string bar = Bar(*mappings[i]);
      Row(IsTable() || bar.size() > 4 ? bar : "", mappings[i]->sums);
    }
    Blank();
    if (mappings.size() > kMaxMappings) {
      Paragraph("And " + std::to_string(mappings.size() - kMaxMappings) + " smaller mappings; --json lists all.");
    }
    const std::string shared = Paint(style_.unicode ? "█" : "#", kGreen);
    const std::string broken = Paint(style_.unicode ? "▓" : "x", kRed);
    const std::string fresh = Paint(style_.unicode ? "░" : ".", kBlue);
    out_ += shared + " shared, " + broken + " broken or kept, " + fresh + " fresh\n";
    Paragraph(
        "broken: copied because this process wrote; kept: the original that others copied; private: any other page of "
        "its own.");
  }

  void Pages() {
    for (const MappingPortrait& mapping : portrait_.mappings) {
      const bool is_empty = std::all_of(mapping.runs.begin(), mapping.runs.end(),
                                        [](const PageRun& run) { return run.state == PageState::kAbsent; });
      if (is_empty && portrait_.mappings.size() > 1) continue;
      out_ += Paint(Cut(MappingName(mapping), width_), kBold) + "\n";
      for (const PageRun& run : mapping.runs) Run(run);
    }
    Blank();
  }

  void Run(const PageRun& run) {
    std::string text = Hex(run.start) + " " + Right(std::to_string(run.pages), 9);
    if (width_ >= 60) text += Right(HumanBytes(run.pages * portrait_.page_bytes), kColumn + 1);
    text.append("  ").append(PageStateName(run.state, run.huge));
    const bool says_huge = run.state == PageState::kPrivate;
    if (run.huge && !says_huge) text += " (huge)";
    for (size_t i = 0; i < run.shared_with.size(); ++i) {
      text.append(i == 0 ? " with " : ", ").append(std::to_string(run.shared_with[i]));
    }
    if (run.state == PageState::kShared && run.shared_with.empty()) text += " with an unknown process";
    Paragraph(text, "  ", "    ");
  }

  const Portrait& portrait_;
  const TerminalStyle style_;
  const size_t width_;
  size_t label_ = 0;  // columns of a table's label; 0: the terminal is too narrow for a table
  std::string out_;
};

}  // namespace

std::string RenderPortrait(const Portrait& portrait, const TerminalStyle& style) {
  return Renderer(portrait, style).Render();
}

}  // namespace cow::exporter

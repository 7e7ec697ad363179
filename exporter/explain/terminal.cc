#include "exporter/explain/terminal.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <numeric>
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
constexpr size_t kAddress = 12;  // digits of a usual address

constexpr const char* kBold = "1";
constexpr const char* kGreen = "32";
constexpr const char* kRed = "31";
constexpr const char* kYellow = "33";
constexpr const char* kBlue = "34";

// A part of a mapping's bar.
struct Part {
  const char* name;
  const char* meaning;
  const char* unicode;
  const char* ascii;
  const char* colour;
};
constexpr std::array<Part, 4> kParts{
    {{"shared", "another process maps the page since a fork; a write copies it", "█", "#", kGreen},
     {"copied", "this process wrote to a shared page or to a file's page", "▓", "x", kRed},
     {"original", "the page that others copied, or still the file's own", "▒", "o", kYellow},
     {"private", "its own, neither copied nor original", "░", ".", kBlue}}};
constexpr Part kBelowOneCell{"", "less than one cell of a bar", "▏", "'", ""};

// A cell of a table.
struct Value {
  const char* name;
  uint64_t pages;
};

std::array<Value, 7> Values(const PageSums& sums) {
  return {{{"resident", sums.Resident()},
           {"shared", sums.Of(PageState::kShared)},
           {"copied", sums.Copied()},
           {"original", sums.Original()},
           {"private", sums.Private()},
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
    if (const std::string also = AlsoHas(portrait_); !also.empty()) {
      Paragraph(also);
      Blank();
    }
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

  bool HasRelatives() const { return portrait_.members.size() > 1; }

  // Orders mappings by what was lost there and what can be lost. A process without relatives loses nothing; its
  // mappings are ordered by size.
  std::vector<const MappingPortrait*> RelevantMappings() const {
    std::vector<const MappingPortrait*> mappings;
    for (const MappingPortrait& mapping : portrait_.mappings) {
      const PageSums& sums = mapping.sums;
      const uint64_t pages = mapping.StakePages() + sums.Private() + sums.Of(PageState::kUnknown) +
                             sums.Of(PageState::kZero) + sums.Of(PageState::kMerged);
      if (pages > 0) mappings.push_back(&mapping);
    }
    const bool has_relatives = HasRelatives();
    const auto key = [has_relatives](const MappingPortrait& mapping) {
      const uint64_t own = mapping.sums.Private();
      return std::pair(mapping.StakePages() + (has_relatives ? 0 : own), own);
    };
    std::stable_sort(mappings.begin(), mappings.end(),
                     [&key](const auto* a, const auto* b) { return key(*a) > key(*b); });
    return mappings;
  }

  std::string Draw(const Part& part) const { return style_.unicode ? part.unicode : part.ascii; }

  std::string Bar(const MappingPortrait& mapping) {
    const PageSums& sums = mapping.sums;
    const std::array<uint64_t, kParts.size()> pages{sums.Of(PageState::kShared), sums.Copied(), sums.Original(),
                                                    sums.Private()};
    const size_t cells = IsTable() ? label_ - 3 : std::min<size_t>(width_ - 4, kMaxLabel);
    const uint64_t all = std::accumulate(pages.begin(), pages.end(), uint64_t{0});
    if (all == 0) return IsTable() ? "  " : "    ";
    std::array<size_t, kParts.size()> lengths{};
    size_t used = 0;
    for (size_t i = 0; i < pages.size(); ++i) {
      lengths.at(i) = static_cast<size_t>(pages.at(i) * cells / all);
      used += IsThin(pages.at(i), lengths.at(i)) ? 1 : lengths.at(i);
    }
    size_t& longest = *std::max_element(lengths.begin(), lengths.end());
    longest = used > cells ? longest - (used - cells) : longest + (cells - used);
    std::string bar = IsTable() ? "  " : "    ";
    for (size_t i = 0; i < pages.size(); ++i) {
      const bool is_thin = IsThin(pages.at(i), lengths.at(i));
      has_thin_ = has_thin_ || is_thin;
      std::string text = is_thin ? Draw(kBelowOneCell) : "";
      for (size_t n = 0; n < lengths.at(i); ++n) text += Draw(kParts.at(i));
      bar += Paint(text, kParts.at(i).colour);
    }
    return bar + (IsTable() ? " " : "");
  }

  // True if pages have less than one cell of the bar.
  static bool IsThin(uint64_t pages, size_t length) { return pages > 0 && length == 0; }

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
      Paragraph("And " + std::to_string(mappings.size() - kMaxMappings) + " more mappings; --json lists all.");
    }
    Legend();
  }

  void Legend() {
    for (const Part& part : kParts) {
      Paragraph(Paint(Draw(part), part.colour) + " " + part.name + ": " + part.meaning, "", "  ");
    }
    if (has_thin_) out_ += Draw(kBelowOneCell) + " " + kBelowOneCell.meaning + "\n";
    Paragraph(HasRelatives() ? "Mappings with the most memory that was or can be copied come first."
                             : "The largest mappings come first.");
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
    SumOfPages();
  }

  // Sums up the runs by state.
  void SumOfPages() {
    struct Sum {
      uint64_t runs = 0;
      uint64_t pages = 0;
    };
    std::vector<std::pair<std::string_view, Sum>> sums;
    for (const MappingPortrait& mapping : portrait_.mappings) {
      for (const PageRun& run : mapping.runs) {
        if (run.state == PageState::kAbsent) continue;
        const std::string_view name = PageStateName(run.state, run.huge);
        auto found = std::find_if(sums.begin(), sums.end(), [name](const auto& each) { return each.first == name; });
        if (found == sums.end()) found = sums.insert(sums.end(), {name, {}});
        ++found->second.runs;
        found->second.pages += run.pages;
      }
    }
    std::stable_sort(sums.begin(), sums.end(),
                     [](const auto& a, const auto& b) { return a.second.pages > b.second.pages; });
    out_ += Paint("SUM", kBold) + "\n";
    if (sums.empty()) Paragraph("no page is present", "  ");
    for (const auto& [name, sum] : sums) {
      PageLine(Count(sum.runs, "run"), sum.pages, std::string(name));
    }
    Blank();
  }

  static std::string Count(uint64_t count, const std::string& what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
  }

  void PageLine(const std::string& label, uint64_t pages, const std::string& state) {
    std::string text = Left(label, kAddress) + " " + Right(std::to_string(pages), 9);
    if (width_ >= 60) text += Right(HumanBytes(pages * portrait_.page_bytes), kColumn + 1);
    Paragraph(text + "  " + state, "  ", "    ");
  }

  void Run(const PageRun& run) {
    std::string text(PageStateName(run.state, run.huge));
    const bool says_huge = run.state == PageState::kPrivate;
    if (run.huge && !says_huge) text += " (huge)";
    for (size_t i = 0; i < run.shared_with.size(); ++i) {
      text.append(i == 0 ? " with " : ", ").append(std::to_string(run.shared_with[i]));
    }
    if (run.state == PageState::kShared && run.shared_with.empty()) text += " with an unknown process";
    PageLine(Hex(run.start), run.pages, text);
  }

  const Portrait& portrait_;
  const TerminalStyle style_;
  const size_t width_;
  size_t label_ = 0;       // columns of a table's label; 0: the terminal is too narrow for a table
  bool has_thin_ = false;  // a bar has a part of less than one cell
  std::string out_;
};

}  // namespace

std::string RenderPortrait(const Portrait& portrait, const TerminalStyle& style) {
  return Renderer(portrait, style).Render();
}

}  // namespace cow::exporter

// Adds the reports of one pass up to a portrait of the family. The pass is a first look: the ledger judges earlier
// breaks by the kernel's marks. Reads kpageflags and kpagecount.
//
// Use one builder per pass, from the scanning thread. Take the portrait after the FamilyReport.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/explain/portrait.h"
#include "collectors/explain/scanned_pages.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/scan/report.h"
#include "collectors/memory/scan/scanner.h"

namespace cow::explain {

// Which pages the portrait describes one by one.
struct PageQuestion {
  bool wanted = false;
  std::optional<uint64_t> address;  // only those of the mapping that holds it
};

class PortraitBuilder {
 public:
  using Scanned = std::map<memory::MemberIndex, ScannedPages>;

  // All arguments must outlive this object. `scanned`: members whose frames are hidden.
  PortraitBuilder(memory::Scanner& scanner, const memory::Member& asked, PageQuestion question, const Scanned& scanned);

  void Add(const memory::WindowReport& report);
  void Add(const memory::MovedReport& report);
  // The last report.
  void Add(const memory::FamilyReport& report);

  Portrait Take() { return std::move(portrait_); }

 private:
  struct SlotFindings {
    PageSums sums;
    uint64_t broken_pages = 0;
    // Of the current window.
    WindowBitmap copied;
    WindowBitmap original;
  };
  // A page without a partner at its address, although the kernel counts another mapping. The end of the pass decides.
  struct Orphan {
    Pfn frame;
    PageNumber page;
    memory::MemberIndex slot;
    PageState otherwise = PageState::kPrivate;  // if no process shares it
    uint64_t mapping = 0;                       // of the process asked for: its index
  };
  // A page of the requested process whose state the end of the pass has changed.
  struct Correction {
    uint64_t address = 0;
    PageState state = PageState::kShared;
    std::vector<pid_t> shared_with;
  };
  using HoldersOfFrame = std::unordered_map<Pfn, std::vector<memory::MovedPage>>;

  void BeginMappings();
  void TakeVerdicts(const memory::Judgement& judgement, PageNumber first_page);
  void CountBreak(const memory::Family& family, const memory::Verdict& verdict);
  void AskMarks(const memory::WindowReport& view);
  void AddMember(const memory::WindowReport& view, size_t reading);
  PageEvidence Evidence(const memory::WindowReport& view, size_t reading, const memory::Mapping& mapping,
                        size_t page) const;
  bool IsZeroPage(memory::MemberIndex slot, memory::PageEntry entry, PageNumber page) const;
  bool OwnPageElsewhere(const memory::WindowReport& view, size_t reading, size_t page) const;
  std::vector<pid_t> Partners(const memory::WindowReport& view, size_t reading, size_t page) const;
  void AddAsked(const memory::WindowReport& view, size_t reading, size_t mapping, size_t page, PageState state,
                bool huge);
  void AddRun(MappingPortrait& mapping, PageRun run) const;
  void FillHoles();
  HoldersOfFrame FindMoved(const memory::Family& family) const;
  void ResolveOrphans(const HoldersOfFrame& moved);
  void Correct(std::vector<Correction> corrections);
  void CorrectMapping(MappingPortrait& mapping, std::span<const Correction> corrections) const;
  std::vector<pid_t> PidsOf(std::span<const memory::MovedPage> holders) const;
  bool Wanted(const memory::Mapping& mapping) const;

  memory::Scanner& scanner_;
  const memory::Member& asked_;
  const PageQuestion question_;
  const Scanned& scanned_;
  const size_t pages_;
  const size_t page_bytes_;

  Portrait portrait_;
  std::map<memory::MemberIndex, SlotFindings> findings_;
  std::map<memory::MemberIndex, pid_t> pids_;
  std::vector<Orphan> orphans_;
  // Of the current window.
  WindowBitmap differs_;
  memory::FrameFacts facts_;
};

}  // namespace cow::explain

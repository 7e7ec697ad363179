// Makes a portrait of the family of one process, once or repeatedly. Lists the processes, finds the relatives, and
// scans their page tables like the exporter does.
//
// Each portrait comes from a first look, so it includes everything that the kernel's marks show of earlier breaks. For
// repeated looks a second ledger of the same family counts the breaks between two looks; it reads only what has
// changed.
//
// Costs 24 µs per process of the host (stat and status), plus the read of the family's page tables. One thread at a
// time.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <tl/expected.hpp>

#include "collectors/base/group_rule.h"
#include "collectors/explain/failure.h"
#include "collectors/explain/family_history.h"
#include "collectors/explain/family_search.h"
#include "collectors/explain/portrait.h"
#include "collectors/explain/portrait_builder.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/scanner.h"
#include "collectors/procfs/root.h"

namespace cow::explain {

struct LookOptions {
  PageQuestion pages;
  bool keep_history = false;                              // tell the next look what was broken in between
  std::function<bool()> may_go_on = [] { return true; };  // asked between two windows
};

class Explainer {
 public:
  // Probes the kernel and this process' rights. Throws std::runtime_error if `root` is not a procfs.
  explicit Explainer(procfs::Root root);

  tl::expected<Portrait, Failure> Look(pid_t pid, const LookOptions& options);

  // Finds the families with a process of this name, or of this group. See family_search.h.
  tl::expected<FamilySearch, Failure> Find(const std::string& name);
  // Throws std::invalid_argument if a regular expression does not compile.
  tl::expected<FamilySearch, Failure> FindGroup(const std::string& group, const GroupOptions& options,
                                                size_t label_bytes);

 private:
  tl::expected<std::unique_ptr<memory::Lineage>, Failure> ListFamilies();
  tl::expected<Portrait, Failure> Read(pid_t pid, memory::Family& family, memory::Member& member,
                                       const LookOptions& options);
  PortraitBuilder::Scanned ScanHidden(const memory::Family& family) const;
  void LookForBreaks(pid_t pid, Portrait& portrait);

  procfs::Root root_;
  memory::Scanner scanner_;
  memory::ProcessTable table_;
  std::optional<FamilyHistory> history_;
  pid_t history_of_ = 0;  // process of the last look at a history; 0: none
};

}  // namespace cow::explain

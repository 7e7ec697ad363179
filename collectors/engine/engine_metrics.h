// Declarations of what no collector publishes: the groups, how well they are known, and the engine itself.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <string_view>

#include "collectors/engine/engine_state.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/metrics.h"

namespace cow::collectors {

inline constexpr Metric kProcesses{
    .name = "cow_processes",
    .unit = "processes",
    .help = "Processes in the group at the last scan.",
    .source =
        "Process lists. 0 for a group that the configuration names and that has no process, and for five minutes "
        "after the last process of a group ended that had a family.",
};
inline constexpr Metric kFamilies{
    .name = "cow_families",
    .unit = "families",
    .help = "Families of two or more processes that descend from one another by fork.",
    .known = Known::kPageTables,
    .source = "Layouts of address spaces and shared frames, or PPID where frames are hidden.",
};
inline constexpr Metric kOldestChildStart{
    .name = "cow_oldest_child_start_timestamp_seconds",
    .unit = "seconds since the epoch",
    .help = "Start of the oldest living forked child.",
    .source = "/proc/PID/stat.",
    .absent = "Where there is no such child, and where procfs is mounted with subset=pid.",
    .query = "time() - cow_oldest_child_start_timestamp_seconds > 3600",
};
inline constexpr Metric kCgroupMemoryLimit{
    .name = "cow_cgroup_memory_limit_bytes",
    .unit = "bytes",
    .help = "Memory limit of the root's cgroup, where it has one.",
    .source = "memory.max, or memory.limit_in_bytes of version 1; limits further up are not looked at.",
    .absent =
        "Where there is no limit or the cgroup can't be read, and where the families of the group are in different "
        "cgroups.",
};
inline constexpr Metric kCgroupMemoryUsage{
    .name = "cow_cgroup_memory_usage_bytes",
    .unit = "bytes",
    .help = "Memory charged to the root's cgroup, where it has a limit.",
    .source = "memory.current, or memory.usage_in_bytes of version 1.",
    .absent = "As the limit.",
    .query =
        "cow_exposure_bytes > on (instance, group) (cow_cgroup_memory_limit_bytes - cow_cgroup_memory_usage_bytes)",
};
inline constexpr Metric kGroupInfo{
    .name = "cow_group_info",
    .help = "What is known of the group; a label that differs between its families is empty.",
    .labels = {{{"unit", {}, "systemd unit"},
                {"container_id", {}, "of the container"},
                {"pod_uid", {}, "of the Kubernetes pod"},
                {"exe", {}, "program of the family's root"}}},
    .source = "Cgroup path and /proc/PID/exe of the families' roots. Exactly one series for each group.",
    .query = "cow_exposure_bytes * on (instance, group) group_left (unit) cow_group_info",
};
inline constexpr Metric kGroupMode{
    .name = "cow_group_mode",
    .help = "How much of the page tables could be seen; 1 for the modes in use.",
    .labels = {{{"mode", kModeNames}}},
    .source =
        "What could be opened and read of the group's processes. There is no series of a mode that is not in use.",
    .query = "count by (mode) (cow_group_mode)",
};
inline constexpr Metric kScanCoverage{
    .name = "cow_scan_coverage_ratio",
    .unit = "ratio",
    .help = "Share of the resident pages of all members, read or not, that the last values rest on.",
    .source = "Times of the windows' latest readings: read, or found unchanged, within the last interval.",
    .absent = "Of a group without processes.",
    .query = "cow_scan_coverage_ratio < 0.9",
};
inline constexpr Metric kScanTimestamp{
    .name = "cow_scan_timestamp_seconds",
    .unit = "seconds since the epoch",
    .help = "When the oldest part of the last values was read.",
    .source = "The same times.",
    .absent = "Of a group of which nothing was read.",
    .query = "time() - cow_scan_timestamp_seconds",
};
inline constexpr Metric kUnreadProcesses{
    .name = "cow_unread_processes",
    .unit = "processes",
    .help = "Processes that are not in the sums, by reason.",
    .labels = {{{"reason", kUnreadReasons}}},
    .source =
        "Errors of reading; budget is of those beyond limits.max_processes, in group _other; too_large of those whose "
        "mappings are more than 131,072 or fill more than 16 MiB of text, which are tried again after growing pauses.",
};

inline constexpr std::array<std::string_view, 3> kScannedFiles{"pagemap", "pagemap_scan", "kpage"};
inline constexpr std::array<std::string_view, 2> kPassKinds{"full", "incremental"};
inline constexpr std::array<std::string_view, 2> kUnreadKeys{"cmdline", "exe"};
inline constexpr std::array<std::string_view, 11> kFeatures{
    "all_processes", "exclusive_marks", "folio_marks",    "frames",      "kpagecount", "kpageflags",
    "ksm_flag",      "pagemap_scan",    "page_mapcounts", "fork_events", "delayacct"};
inline constexpr MetricLabel kCollectorLabel{"collector", {}, "the enabled ones"};

inline constexpr Metric kHostSaved{
    .name = "cow_host_saved_bytes",
    .unit = "bytes",
    .help =
        "Anonymous memory that sharing saves on the whole host, by the kernel's own sums: RssAnon of all address "
        "spaces less AnonPages.",
    .of_groups = false,
    .source =
        "/proc/PID/status and /proc/meminfo, read before and after the processes, without a look at page tables: a "
        "check of the sum of exposures.",
    .absent =
        "Unless every process of the host can be seen, and of a pass during whose reading of processes AnonPages "
        "changed by more than 1 %, or whose difference is negative.",
    .query = "sum(cow_exposure_bytes) / cow_host_saved_bytes",
};
inline constexpr Metric kScanPages{
    .name = "cow_scan_pages_total",
    .type = prometheus::MetricType::Counter,
    .unit = "pages",
    .help = "Page-table entries read from pagemap.",
    .of_groups = false,
};
inline constexpr Metric kScanFrameWords{
    .name = "cow_scan_frame_words_total",
    .type = prometheus::MetricType::Counter,
    .unit = "words",
    .help = "Words read from kpageflags and kpagecount.",
    .of_groups = false,
};
inline constexpr Metric kScanCalls{
    .name = "cow_scan_calls_total",
    .type = prometheus::MetricType::Counter,
    .unit = "calls",
    .help = "System calls that read page tables, by file.",
    .labels = {{{"file", kScannedFiles}}},
    .of_groups = false,
};
inline constexpr Metric kScanRests{
    .name = "cow_scan_rests_total",
    .type = prometheus::MetricType::Counter,
    .unit = "rests",
    .help = "Sleeps that gave a process its rest between two windows.",
    .of_groups = false,
};
inline constexpr Metric kScanWindowsReadAgain{
    .name = "cow_scan_windows_read_again_total",
    .type = prometheus::MetricType::Counter,
    .unit = "windows",
    .help = "Windows read again because their verdict was new.",
    .of_groups = false,
};
inline constexpr Metric kScanUnchangedWindows{
    .name = "cow_scan_unchanged_windows_total",
    .type = prometheus::MetricType::Counter,
    .unit = "windows",
    .help = "Windows that were not compared, because they read as at the look before.",
    .of_groups = false,
};
inline constexpr Metric kScanUnstablePages{
    .name = "cow_scan_unstable_pages_total",
    .type = prometheus::MetricType::Counter,
    .unit = "pages",
    .help = "Pages that kept changing under the reads and were left for the next pass.",
    .of_groups = false,
};
inline constexpr Metric kScanPasses{
    .name = "cow_scan_passes_total",
    .type = prometheus::MetricType::Counter,
    .unit = "passes",
    .help = "Completed passes: full ones read everything, incremental ones what changed.",
    .labels = {{{"kind", kPassKinds}}},
    .of_groups = false,
    .query = "sum without (kind) (rate(cow_scan_passes_total[5m]))",
};
inline constexpr Metric kScanSkippedProcesses{
    .name = "cow_scan_skipped_processes",
    .unit = "processes",
    .help = "Processes that the last pass did not read, because nothing of theirs had changed.",
    .of_groups = false,
};
inline constexpr Metric kForkEventsOverruns{
    .name = "cow_fork_events_overruns_total",
    .type = prometheus::MetricType::Counter,
    .unit = "times",
    .help = "Times that the kernel's fork events came faster than they were taken, and processes were listed.",
    .of_groups = false,
    .absent =
        "Without fork events (they need CAP_NET_ADMIN and the initial network, user and PID namespaces), and with an "
        "interval of 0.",
};
inline constexpr Metric kLedgerBytes{
    .name = "cow_ledger_bytes",
    .unit = "bytes",
    .help = "Memory of the records of shared pages.",
    .of_groups = false,
};
inline constexpr Metric kScanLooksBytes{
    .name = "cow_scan_looks_bytes",
    .unit = "bytes",
    .help = "Memory of what each process showed at its latest look.",
    .of_groups = false,
};
inline constexpr Metric kLedgerReducedWindows{
    .name = "cow_ledger_reduced_windows",
    .unit = "windows",
    .help = "Windows whose records keep bits only, because page frames would exceed limits.ledger_bytes.",
    .of_groups = false,
    .source =
        "The kernel's marks tell who broke a page there; without marks the side is unknown. A page that moved away "
        "may be unmatched.",
    .query = "cow_ledger_reduced_windows > 0",
};
inline constexpr Metric kMemoryBytes{
    .name = "cow_exporter_memory_bytes",
    .unit = "bytes",
    .help = "Memory of all that is stored about pages, by purpose; limits.ledger_bytes is for the sum.",
    .labels = {{{"purpose", memory::kMemoryPurposes}}},
    .of_groups = false,
    .source =
        "records: who shares which page. moved: pages shared between different addresses. pending: pages whose partner "
        "is looked for in the pass under way. looks: what each process showed in each window. members: the processes' "
        "address ranges, and where they have huge pages.",
    .query = "sum without (purpose) (cow_exporter_memory_bytes)",
};
inline constexpr Metric kGroupsOverflowed{
    .name = "cow_groups_overflowed",
    .unit = "groups",
    .help = "Groups beyond the limit, added up in group _other.",
    .of_groups = false,
    .query = "cow_groups_overflowed > 0",
};
inline constexpr Metric kGroupKeysUnread{
    .name = "cow_group_keys_unread_total",
    .type = prometheus::MetricType::Counter,
    .unit = "times",
    .help = "Times that a rule of groups asked for what could not be read of a process: it did not match then.",
    .labels = {{{"key", kUnreadKeys}}},
    .of_groups = false,
    .absent = "Until it happens.",
};
inline constexpr Metric kCollectorDuration{
    .name = "cow_scrape_collector_duration_seconds",
    .unit = "seconds",
    .help = "Time the collector took in the last pass.",
    .labels = {{kCollectorLabel}},
    .of_groups = false,
};
inline constexpr Metric kCollectorSuccess{
    .name = "cow_scrape_collector_success",
    .help = "Whether the collector succeeded in the last pass.",
    .labels = {{kCollectorLabel}},
    .of_groups = false,
    .query = "cow_scrape_collector_success == 0",
};
inline constexpr Metric kCapability{
    .name = "cow_exporter_capability",
    .help = "What the kernel and the exporter's rights allow.",
    .labels = {{{"feature", kFeatures}}},
    .of_groups = false,
    .source =
        "What was tried at the start, on pages of the exporter's own where it is about page tables; 0 or 1. "
        "HOW_EXACT.md "
        "says what each one that is missing costs. fork_events is there once they were asked for, delayacct while the "
        "collector is on.",
    .query = "cow_exporter_capability == 0",
};

}  // namespace cow::collectors

// Declares the metrics that the engine publishes: the groups, how well they are known, and the engine itself.
// Constants.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <string_view>

#include "collectors/engine/family_state.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/metrics.h"

namespace cow::collectors {

inline constexpr Metric kProcesses{
    .name = "cow_processes",
    .unit = "processes",
    .help = "Processes in the group at the last scan.",
    .source =
        "Process lists. 0 for a group without processes that the configuration names, and for five minutes after the "
        "end of a group that had a family.",
};
inline constexpr Metric kFamilies{
    .name = "cow_families",
    .unit = "families",
    .help = "Families of two or more processes that descend from one another by fork.",
    .known = Known::kPageTables,
    .source = "Address-space layouts and shared frames, or parent pids if frames are hidden.",
};
inline constexpr Metric kOldestChildStart{
    .name = "cow_oldest_child_start_timestamp_seconds",
    .unit = "seconds since the epoch",
    .help = "Start time of the group's oldest living forked child.",
    .source = "/proc/PID/stat.",
    .absent = "If there is no such child, or if procfs is mounted with subset=pid.",
    .query = "time() - cow_oldest_child_start_timestamp_seconds > 3600",
};
inline constexpr Metric kCgroupMemoryLimit{
    .name = "cow_cgroup_memory_limit_bytes",
    .unit = "bytes",
    .help = "Memory limit of the cgroup of the group's root processes.",
    .source = "memory.max, or memory.limit_in_bytes of version 1. Limits of parent cgroups are ignored.",
    .absent = "If the cgroup has no limit or can't be read, or if the families of the group are in different cgroups.",
};
inline constexpr Metric kCgroupMemoryUsage{
    .name = "cow_cgroup_memory_usage_bytes",
    .unit = "bytes",
    .help = "Memory charged to the cgroup of the group's root processes, if the cgroup has a limit.",
    .source = "memory.current, or memory.usage_in_bytes of version 1.",
    .absent = "Whenever cow_cgroup_memory_limit_bytes is absent.",
    .query =
        "cow_exposure_bytes > on (instance, group) (cow_cgroup_memory_limit_bytes - cow_cgroup_memory_usage_bytes)",
};
inline constexpr Metric kGroupInfo{
    .name = "cow_group_info",
    .help = "Properties of the group; a label that differs between its families is empty.",
    .labels = {{{"unit", {}, "systemd unit"},
                {"container_id", {}, "of the container"},
                {"pod_uid", {}, "of the Kubernetes pod"},
                {"exe", {}, "program of the family's root"}}},
    .source = "Cgroup path and /proc/PID/exe of the families' roots. Each group has exactly one series.",
    .query = "cow_exposure_bytes * on (instance, group) group_left (unit) cow_group_info",
};
inline constexpr Metric kGroupMode{
    .name = "cow_group_mode",
    .help = "How much of the page tables the exporter could see: 1 for each mode in use.",
    .labels = {{{"mode", kModeNames}}},
    .source =
        "The files of the group's processes that could be opened and read. A mode that is not in use has no series.",
    .query = "count by (mode) (cow_group_mode)",
};
inline constexpr Metric kScanCoverage{
    .name = "cow_scan_coverage_ratio",
    .unit = "ratio",
    .help =
        "Share of the resident pages of all processes of the group that were read or verified unchanged within the "
        "last interval.",
    .source = "The times of the latest readings of all windows.",
    .absent = "For a group without processes.",
    .query = "cow_scan_coverage_ratio < 0.9",
};
inline constexpr Metric kScanTimestamp{
    .name = "cow_scan_timestamp_seconds",
    .unit = "seconds since the epoch",
    .help = "Time when the oldest part of the last values was read.",
    .source = "The times of the latest readings of all windows.",
    .absent = "For a group of which nothing was read.",
    .query = "time() - cow_scan_timestamp_seconds",
};
inline constexpr Metric kUnreadProcesses{
    .name = "cow_unread_processes",
    .unit = "processes",
    .help = "Processes that are not in the sums of the group, by reason.",
    .labels = {{{"reason", kUnreadReasons}}},
    .source =
        "Errors of reading. budget: processes beyond limits.max_processes, counted in group _other. too_large: "
        "processes with more than 131,072 mappings or 16 MiB of text in maps; the exporter tries them again after "
        "growing pauses.",
};

inline constexpr std::array<std::string_view, 3> kScannedFiles{"pagemap", "pagemap_scan", "kpage"};
inline constexpr std::array<std::string_view, 2> kPassKinds{"full", "incremental"};
inline constexpr std::array<std::string_view, 2> kUnreadKeys{"cmdline", "exe"};
inline constexpr std::array<std::string_view, 14> kFeatures{
    "all_processes", "exclusive_marks", "folio_marks", "frames",      "kpagecount", "kpageflags", "ksm_flag",
    "pagemap_scan",  "page_mapcounts",  "ptrace",      "fork_events", "delayacct",  "sandbox",    "writers"};
inline constexpr MetricLabel kCollectorLabel{"collector", {}, "the enabled ones"};

inline constexpr Metric kHostSaved{
    .name = "cow_host_saved_bytes",
    .unit = "bytes",
    .help =
        "Anonymous memory that sharing saves on the whole host, by the kernel's own sums: RssAnon of all address "
        "spaces minus AnonPages.",
    .of_groups = false,
    .source =
        "/proc/PID/status, and /proc/meminfo before and after it. No page table is used, so the metric checks the sum "
        "of exposures independently.",
    .absent =
        "If the exporter can't see every process of the host, if AnonPages changed by more than 1 % while the "
        "processes were read, or if the difference is negative.",
    .query = "sum(cow_exposure_bytes) / cow_host_saved_bytes",
};
// Metrics of the exporter itself without labels, whose help says all.
constexpr Metric OwnGauge(std::string_view name, std::string_view unit, std::string_view help) {
  return {.name = name, .unit = unit, .help = help, .of_groups = false};
}
constexpr Metric OwnCounter(std::string_view name, std::string_view unit, std::string_view help) {
  Metric metric = OwnGauge(name, unit, help);
  metric.type = prometheus::MetricType::Counter;
  return metric;
}

inline constexpr Metric kScanPages =
    OwnCounter("cow_scan_pages_total", "pages", "Page-table entries read from pagemap.");
inline constexpr Metric kScanFrameWords =
    OwnCounter("cow_scan_frame_words_total", "words", "Words read from kpageflags and kpagecount.");
inline constexpr Metric kScanCalls{
    .name = "cow_scan_calls_total",
    .type = prometheus::MetricType::Counter,
    .unit = "calls",
    .help = "System calls that read page tables, by file.",
    .labels = {{{"file", kScannedFiles}}},
    .of_groups = false,
};
inline constexpr Metric kScanRests =
    OwnCounter("cow_scan_rests_total", "rests",
               "Pauses of the scan between two windows of a process, which keep the process' lock waits short.");
inline constexpr Metric kScanWindowsReadAgain =
    OwnCounter("cow_scan_windows_read_again_total", "windows", "Windows read a second time to confirm a new verdict.");
inline constexpr Metric kScanUnchangedWindows =
    OwnCounter("cow_scan_unchanged_windows_total", "windows",
               "Windows that were read and not compared because they had not changed since the previous look.");
inline constexpr Metric kScanUnstablePages =
    OwnCounter("cow_scan_unstable_pages_total", "pages",
               "Pages that kept changing while they were read and were left for the next pass.");
inline constexpr Metric kScanPasses{
    .name = "cow_scan_passes_total",
    .type = prometheus::MetricType::Counter,
    .unit = "passes",
    .help = "Completed passes: full ones read everything, incremental ones only what changed.",
    .labels = {{{"kind", kPassKinds}}},
    .of_groups = false,
    .query = "sum without (kind) (rate(cow_scan_passes_total[5m]))",
};
inline constexpr Metric kScanSkippedProcesses =
    OwnGauge("cow_scan_skipped_processes", "processes",
             "Processes that the last pass did not read because nothing indicated a change.");
inline constexpr Metric kForkEventsOverruns{
    .name = "cow_fork_events_overruns_total",
    .type = prometheus::MetricType::Counter,
    .unit = "times",
    .help = "Times the exporter lost fork events because they came too fast, and listed all processes instead.",
    .of_groups = false,
    .absent =
        "Without fork events (they need CAP_NET_ADMIN and the initial network, user and PID namespaces), and at "
        "interval 0.",
};
inline constexpr Metric kLedgerBytes = OwnGauge(
    "cow_ledger_bytes", "bytes", "Memory that the ledger, the records of shared pages, takes in the exporter.");
inline constexpr Metric kScanLooksBytes =
    OwnGauge("cow_scan_looks_bytes", "bytes", "Memory in the exporter for the latest look at each process.");
inline constexpr Metric kLedgerReducedWindows{
    .name = "cow_ledger_reduced_windows",
    .unit = "windows",
    .help = "Windows recorded without page frames because frames would exceed limits.ledger_bytes.",
    .of_groups = false,
    .source =
        "The ledger's own count. In such a window the kernel's marks tell who broke a page; without marks the side is "
        "unknown. A page that moved away may remain unmatched.",
    .query = "cow_ledger_reduced_windows > 0",
};
inline constexpr Metric kMemoryBytes{
    .name = "cow_exporter_memory_bytes",
    .unit = "bytes",
    .help = "Memory of everything the exporter stores about pages, by purpose; limits.ledger_bytes applies to the sum.",
    .labels = {{{"purpose", memory::kMemoryPurposes}}},
    .of_groups = false,
    .source =
        "records: who shares which page. moved: pages shared between different addresses. pending: pages for which the "
        "current pass still searches a partner. looks: the latest look at each window of each process. members: the "
        "processes' address ranges and the places of their huge pages.",
    .query = "sum without (purpose) (cow_exporter_memory_bytes)",
};
inline constexpr Metric kGroupsOverflowed{
    .name = "cow_groups_overflowed",
    .unit = "groups",
    .help = "Groups beyond limits.max_groups, which are summed up in group _other.",
    .of_groups = false,
    .query = "cow_groups_overflowed > 0",
};
inline constexpr Metric kGroupKeysUnread{
    .name = "cow_group_keys_unread_total",
    .type = prometheus::MetricType::Counter,
    .unit = "times",
    .help = "Times a group rule did not match because it needed a file of a process that could not be read.",
    .labels = {{{"key", kUnreadKeys}}},
    .of_groups = false,
    .absent = "Until it happens for the first time.",
};
inline constexpr Metric kCollectorDuration{
    .name = "cow_scrape_collector_duration_seconds",
    .unit = "seconds",
    .help = "Time that the collector took in the last pass.",
    .labels = {{kCollectorLabel}},
    .of_groups = false,
};
inline constexpr Metric kCollectorSuccess{
    .name = "cow_scrape_collector_success",
    .help = "1 if the collector succeeded in the last pass, else 0.",
    .labels = {{kCollectorLabel}},
    .of_groups = false,
    .query = "cow_scrape_collector_success == 0",
};
inline constexpr Metric kCapability{
    .name = "cow_exporter_capability",
    .help = "Features that the kernel and the exporter's rights allow: 1 if available, else 0.",
    .labels = {{{"feature", kFeatures}}},
    .of_groups = false,
    .source =
        "Trials at the start; those about page tables use the exporter's own pages. HOW_EXACT.md says what a missing "
        "feature costs. fork_events appears once the exporter has asked for them, delayacct and writers while the "
        "collector is on, "
        "sandbox while the exporter serves.",
    .query = "cow_exporter_capability == 0",
};

}  // namespace cow::collectors

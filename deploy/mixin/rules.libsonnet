// Recording rules. They aggregate with `without`, so they keep every label of the target. A quotient has no series if
// its divisor is zero or one side is missing. Rates and increases use counters, so resets do no harm. Groups that ended
// have no family and no exposure, so they have no consumed ratio and no time to exhaustion.
{
  prometheusRules+:: {
    groups+: [
      {
        name: 'cow_exporter.rules',
        [if $._config.interval != null then 'interval']: $._config.interval,
        rules:
          [
            {
              record: 'group:cow_break_bytes:rate' + window,
              expr: |||
                sum without (mapping) (rate(cow_break_bytes_total{%s}[%s]))
              ||| % [$._config.cowSelector, window],
            }
            for window in std.set([$._config.fastWindow, $._config.slowWindow])
          ] + [
            {
              record: 'group:cow_breaks:rate' + $._config.slowWindow,
              expr: |||
                rate(cow_breaks_total{%(cowSelector)s}[%(slowWindow)s])
              ||| % $._config,
            },
            {
              record: 'group:cow_break_bytes:increase' + $._config.consumedWindow,
              expr: |||
                sum without (mapping) (increase(cow_break_bytes_total{%(cowSelector)s}[%(consumedWindow)s]))
              ||| % $._config,
            },
            {
              record: 'group:cow_sharing:ratio',
              expr: |||
                sum without (backing, sharing) (cow_resident_bytes{%(cowSelector)s, backing="anon", sharing="shared"})
                /
                (sum without (backing, sharing) (cow_resident_bytes{%(cowSelector)s, backing="anon", sharing=~"private|shared"}) > 0)
              ||| % $._config,
            },
            {
              // Only while the group has a family: otherwise exits, not writes, have ended the sharing.
              record: 'group:cow_exposure_consumed:ratio' + $._config.consumedWindow,
              expr: |||
                group:cow_break_bytes:increase%(consumedWindow)s
                /
                (group:cow_break_bytes:increase%(consumedWindow)s + cow_exposure_bytes{%(cowSelector)s} > 0)
                and
                cow_families{%(cowSelector)s} > 0
              ||| % $._config,
            },
            {
              // Uses the fast rate.
              record: 'group:cow_exposure_exhaustion:seconds',
              expr: |||
                (cow_exposure_bytes{%(cowSelector)s} > 0) / (group:cow_break_bytes:rate%(fastWindow)s > 0)
              ||| % $._config,
            },
            {
              // Sums the groups of one cgroup, identified by unit and container; each of them gets the sum. A group
              // that has neither, or whose families are in several cgroups, gets its own footprint.
              record: 'group:cow_cgroup_footprint_bytes',
              expr: |||
                sum without (unit, container_id, pod_uid, exe) (
                  (cow_group_info{%(cowSelector)s} unless cow_group_info{%(cowSelector)s, unit="", container_id=""})
                  * ignoring (group, pod_uid, exe) group_left ()
                  sum without (group, pod_uid, exe) (
                    cow_group_info{%(cowSelector)s}
                    * ignoring (unit, container_id, pod_uid, exe) group_left ()
                    (cow_footprint_bytes{%(cowSelector)s} and cow_cgroup_memory_limit_bytes{%(cowSelector)s})
                  )
                )
                and cow_cgroup_memory_limit_bytes{%(cowSelector)s}
                or cow_footprint_bytes{%(cowSelector)s} and cow_cgroup_memory_limit_bytes{%(cowSelector)s}
              ||| % $._config,
            },
            {
              // The rest of the cgroup's limit. Footprints stand for memory that can't be reclaimed. The usage includes
              // the page cache, so it is near the limit for programs that write files. Shared memory and the kernel's
              // memory can't be reclaimed either but are in the usage only, so the real rest may be smaller. It is at
              // least the limit minus the usage. Footprints above the limit are charged to another cgroup and are
              // ignored.
              record: 'group:cow_cgroup_headroom_bytes',
              expr: |||
                clamp_min(
                  cow_cgroup_memory_limit_bytes{%(cowSelector)s}
                  - (
                    group:cow_cgroup_footprint_bytes < cow_cgroup_memory_usage_bytes{%(cowSelector)s}
                    or
                    cow_cgroup_memory_usage_bytes{%(cowSelector)s}
                  ),
                  0
                )
                and
                group:cow_cgroup_footprint_bytes <= cow_cgroup_memory_limit_bytes{%(cowSelector)s}
              ||| % $._config,
            },
            {
              record: 'group:cow_oldest_child_age:seconds',
              expr: |||
                time() - cow_oldest_child_start_timestamp_seconds{%(cowSelector)s}
              ||| % $._config,
            },
            {
              record: 'instance:cow_exposure_bytes:sum',
              expr: |||
                sum without (group) (cow_exposure_bytes{%(cowSelector)s})
              ||| % $._config,
            },
          ] + [
            {
              record: 'instance:cow_break_bytes:rate' + window,
              expr: |||
                sum without (group) (group:cow_break_bytes:rate%s)
              ||| % window,
            }
            for window in std.set([$._config.fastWindow, $._config.slowWindow])
          ] + [
            {
              // Uses the fast rate.
              record: 'instance:cow_memory_exhaustion:seconds',
              expr: |||
                max by (%(nodeLabel)s) (node_memory_MemAvailable_bytes{%(nodeSelector)s})
                / on (%(nodeLabel)s) group_right ()
                (instance:cow_break_bytes:rate%(fastWindow)s > 0)
              ||| % $._config,
            },
          ],
      },
      {
        // Alerts count the samples of these rules, so they have a fixed interval.
        name: 'cow_exporter.slow.rules',
        interval: $._config.slowInterval,
        rules: [
          {
            // 1 while a process of the group has a child, else 0; absent while the group has no process.
            record: 'group:cow_children:present',
            expr: |||
              (cow_families{%(cowSelector)s} > bool 0) and cow_processes{%(cowSelector)s} > 0
            ||| % $._config,
          },
        ],
      },
    ],
  },
}

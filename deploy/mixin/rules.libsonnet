// Recording rules. They keep every label of the target, by aggregating with `without`. What would be divided by zero, or lacks a
// side, has no series. Rates and increases are of counters, which mind resets; groups that ended have no family, so no share
// consumed, and no exposure, so nothing that runs out.
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
              // While there is someone to share with; without, all that was shared is gone by exit, not by writes.
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
              // At the fast rate.
              record: 'group:cow_exposure_exhaustion:seconds',
              expr: |||
                (cow_exposure_bytes{%(cowSelector)s} > 0) / (group:cow_break_bytes:rate%(fastWindow)s > 0)
              ||| % $._config,
            },
            {
              // Of all groups in the cgroup, told by unit and container: each of them has the sum. One that has neither, or whose
              // families are in several, has its own only.
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
              // What the cgroup's limit leaves. Footprints are taken for what can't be reclaimed: usage counts the page cache too,
              // and is near the limit of whoever writes files. Nor can shared memory and the kernel's own be reclaimed, which are
              // in the usage alone: of these nothing is known, so it may be less. It is not less than the limit less the usage.
              // Footprints above the limit are charged elsewhere, and say nothing.
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
              // At the fast rate.
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
        // Samples of these are counted, so they have an interval of their own.
        name: 'cow_exporter.slow.rules',
        interval: $._config.slowInterval,
        rules: [
          {
            // 1 while a process of the group has a child, 0 while none has; none while there is no process.
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

// The dashboard of one group: which side breaks pages and where, its kinds of pages, the cost of its forks, and how
// complete the values are.
local lib = import 'lib.libsonnet';

{
  grafanaDashboards+:: {
    'cow-group.json':
      local config = $._config;
      local node = config.nodeLabel;
      local of = lib.ofGroup;

      local exposure = of('cow_exposure_bytes');
      local broken = lib.rate(of('cow_break_bytes_total'));
      local anonymous = of('cow_resident_bytes', 'backing="anon"');
      local anonymousShared = of('cow_resident_bytes', 'backing="anon",sharing="shared"');
      local oldestChild = 'time() - min(%s)' % of('cow_oldest_child_start_timestamp_seconds');
      local age = 'time() - min(%s)' % of('cow_scan_timestamp_seconds');
      local limit = of('cow_cgroup_memory_limit_bytes');
      local usage = of('cow_cgroup_memory_usage_bytes');
      local usedUp = lib.usedUp('', of);
      local samples = lib.rate(of('cow_writer_samples_total'));
      local writerBreaks = '%s / scalar(%s) * scalar(%s)' % [
        lib.sum('side, object, function', samples),
        lib.total(samples),
        lib.total(lib.rate(of('cow_breaks_total'))),
      ];
      local forkCost(quantile) =
        // The comparison drops NaN, the quantile of no child.
        'histogram_quantile(%g, %s) >= 0' % [quantile, lib.sum('le', lib.increase(of('cow_fork_break_bytes_bucket')))];

      lib.dashboard(
        config,
        lib.uids.group,
        'Copy-on-write / Group',
        'One group of processes: what it shares, which side breaks pages and in which mappings, the cost of its ' +
        'forks, and how complete the values are.',
        'one',
        links=[lib.link('Overview', lib.uids.overview), lib.link('Exporter', lib.uids.exporter)],
        annotations=[
          lib.alerts(of),
          lib.annotation(
            'Forks',
            'blue',
            'sum by (job, instance, group) (changes(%s)) > 0' % (of('cow_forks_total') + '[$__rate_interval]'),
            'Fork',
            '{{group}} on {{instance}}',
            'group,instance'
          ),
        ],
        rows=[
          lib.row('Now', 4, [
            lib.wide(3, lib.stat(
              'Processes',
              'Processes in the group at the last scan.',
              'none',
              [lib.now(lib.total(of('cow_processes')), 'processes')]
            )),
            lib.wide(3, lib.stat(
              'Families',
              'Families of two or more processes that descend from one another by fork without exec.',
              'none',
              [lib.now(lib.total(of('cow_families')), 'families')]
            )),
            lib.wide(3, lib.stat(
              'Exposure',
              'Memory that sharing saves now: the group would grow by this much if it wrote to every shared page.',
              'bytes',
              [lib.now(lib.total(exposure), 'exposure')]
            )),
            lib.wide(3, lib.stat(
              'Footprint',
              'Anonymous memory of the group, each physical page counted once.',
              'bytes',
              [lib.now(lib.total(of('cow_footprint_bytes')), 'footprint')]
            )),
            lib.wide(3, lib.stat(
              'Broken per second',
              'Shared memory that was copied because a member wrote to it.',
              'binBps',
              [lib.now(lib.total(broken), 'broken')]
            )),
            lib.wide(3, lib.stat(
              'Used up in',
              'Exposure divided by the rate of breaks over the last minutes. New forks increase it. Empty without ' +
              'breaks, and if nothing is shared any more.',
              's',
              [lib.now(usedUp, 'used up')]
            ) + lib.thresholds('red', [[300, 'orange'], [3600, 'green']]) + lib.noValue('no breaks')),
            lib.wide(3, lib.stat(
              'Oldest forked child',
              'Age of the oldest living forked child. While it lives, every page that its parent writes to is copied.',
              's',
              [lib.now(oldestChild, 'age')]
            ) + lib.noValue('no child')),
            lib.wide(3, lib.stat(
              'Mode',
              'How the exporter reads the group. "full" knows frames; other modes know less, see the modes in ' +
              'HOW_EXACT.md.',
              'none',
              [lib.now('max by (mode) (%s) == 1' % of('cow_group_mode'), '{{mode}}')]
            ) + lib.names),
          ]),
          lib.row('Sharing', 9, [
            lib.wide(12, lib.timeseries(
              'Process view and physical view',
              'The process view adds up what each process maps, so a page shared by three processes counts three ' +
              'times. The physical view counts it once. The difference is the exposure.',
              'bytes',
              [
                lib.range(lib.total(anonymous), 'process view'),
                lib.range(lib.total(of('cow_footprint_bytes')), 'physical view'),
                lib.range(lib.total(exposure), 'exposure'),
              ]
            ) + lib.dashed('exposure', 'orange')),
            lib.wide(12, lib.timeseries(
              'Anonymous memory, shared and private',
              'Process view. Ending these processes would free the private memory. Unknown is either shared or ' +
              'private.',
              'bytes',
              [lib.range(lib.sum('sharing', anonymous), '{{sharing}}')]
            ) + lib.stacked),
            lib.wide(12, lib.timeseries(
              'Resident memory by backing',
              'Process view of all resident memory. Only anonymous and private file memory can be broken.',
              'bytes',
              [lib.range(lib.sum('backing', of('cow_resident_bytes')), '{{backing}}')]
            ) + lib.stacked),
            lib.wide(12, lib.timeseries(
              'Exposure is used up in',
              'Exposure divided by the rate of breaks. There is no line without breaks.',
              's',
              [lib.range(usedUp, 'used up')]
            ) + lib.logarithmic),
          ]),
          lib.row('Breaks', 9, [
            lib.wide(8, lib.timeseries(
              'Pages broken, by side',
              "Parent is the family's root, its oldest living member; child is any other member. Redis breaks " +
              'pages in the parent during a save, prefork servers in workers that handle requests.',
              'cps',
              [lib.range(lib.sum('side', lib.rate(of('cow_breaks_total'))), '{{side}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Bytes broken, by mapping',
              'Breaks in bytes, by the kind of mapping that was written to.',
              'binBps',
              [lib.range(lib.sum('mapping', broken), '{{mapping}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Private without a copy',
              'Memory that became private without a copy: the other holders ended or unmapped it, or it was ' +
              'collapsed into a huge page.',
              'binBps',
              [lib.range(lib.sum('cause', lib.rate(of('cow_unshared_bytes_total'))), '{{cause}}')]
            ) + lib.stacked),
            lib.wide(8, lib.heatmap(
              'Cost of forks',
              "Bytes broken between a child and its parent over the child's life, observed at its end.",
              'bytes',
              [lib.buckets(lib.sum('le', lib.increase(of('cow_fork_break_bytes_bucket'))))]
            )),
            lib.wide(8, lib.timeseries(
              'Cost of a fork',
              'Median and 90th percentile of the bytes broken in the life of a child, as exact as the buckets of ' +
              'the histogram.',
              'bytes',
              [lib.range(forkCost(0.5), 'median'), lib.range(forkCost(0.9), '90 %')]
            ) + { fieldConfig+: { defaults+: { custom+: { showPoints: 'always', spanNulls: true } } } }),
            lib.wide(8, lib.timeseries(
              'Forks',
              'New members by fork, per second. The blue marks on all panels show them.',
              'cps',
              [lib.range(lib.total(lib.rate(of('cow_forks_total'))), 'forks')]
            )),
          ]),
          lib.row('Who writes?', 9, [
            lib.wide(24, lib.timeseries(
              'Pages broken, by the code that wrote',
              'Pages broken per second, divided among functions as the samples of page faults are. Without a symbol ' +
              'only the object is known. Needs the collector writers.',
              'cps',
              [lib.range(writerBreaks, '{{function}} {{object}} ({{side}})')],
              'table'
            ) + lib.stacked),
          ]),
          lib.row('Kinds of pages', 8, [
            lib.wide(8, lib.timeseries(
              'Zero pages',
              "Memory that was read but never written: the kernel's zero page is mapped there, so it costs nothing.",
              'bytes',
              [lib.range(lib.sum('size', of('cow_zero_page_bytes')), '{{size}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Huge pages',
              'Memory in huge pages, process view, by backing and by how it is mapped.',
              'bytes',
              [lib.range(lib.sum('backing, mapped', of('cow_huge_page_bytes')), '{{backing}}, {{mapped}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Huge pages split by writes',
              'Huge pages that were split and in which a member broke a page. The first write to a shared huge ' +
              'page splits it.',
              'cps',
              [lib.range(lib.total(lib.rate(of('cow_huge_page_splits_total'))), 'splits')]
            )),
            lib.wide(8, lib.timeseries(
              'Pages of private file mappings',
              'Pages that the process wrote to and so copied, and pages that are still in the page cache: .data, ' +
              'RELRO, snapshots mapped privately.',
              'bytes',
              [lib.range(lib.sum('state', of('cow_private_file_bytes')), '{{state}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Swapped',
              'Memory in swap. No other sum includes it.',
              'bytes',
              [lib.range(lib.total(of('cow_swapped_bytes')), 'swapped')]
            )),
            lib.wide(8, lib.timeseries(
              'Merged by KSM',
              'Memory that KSM has merged. Needs the collector ksm.',
              'bytes',
              [lib.range(lib.total(of('cow_ksm_bytes')), 'merged')]
            )),
          ]),
          lib.row('Limits', 8, [
            lib.wide(12, lib.timeseries(
              'Memory cgroup',
              "Memory usage and limit of the root's cgroup, and the usage if all exposure were broken. Empty " +
              'without a limit.',
              'bytes',
              [
                lib.range('max(%s)' % usage, 'usage'),
                lib.range('max(%s) + %s' % [usage, lib.total(exposure)], 'usage, all broken'),
                lib.range('max(%s)' % limit, 'limit'),
              ]
            ) + lib.dashed('limit', 'red') + lib.dashed('usage, all broken', 'orange')),
            lib.wide(12, lib.timeseries(
              'Exposure and available memory',
              "The exposure, the rest of the cgroup's limit, and the host's available memory. If the exposure is larger, " +
              "writes to shared pages alone can get the group killed. The host's line needs node_exporter with the same " +
              'label %s.' % node,
              'bytes',
              [
                lib.range(lib.total(exposure), 'exposure'),
                lib.range('min(%s - %s)' % [limit, usage], 'left in the cgroup'),
                lib.range(
                  'min(%s and on (%s) %s)' % [lib.memoryAvailable(config), node, exposure],
                  'available on the host'
                ),
              ]
            ) + lib.dashed('left in the cgroup', 'red') + lib.dashed('available on the host', 'purple')),
          ]),
          lib.row('Top processes', 8, [
            lib.wide(12, lib.timeseries(
              'Exposure of single processes',
              'The top processes only. Needs the collector process.',
              'bytes',
              [lib.range(lib.sum('pid, comm', of('cow_process_exposure_bytes')), '{{comm}} {{pid}}')],
              'table'
            )),
            lib.wide(12, lib.timeseries(
              'Pages broken by single processes',
              'The top processes only. Needs the collector process.',
              'cps',
              [lib.range(lib.sum('pid, comm', lib.rate(of('cow_process_breaks_total'))), '{{comm}} {{pid}}')],
              'table'
            )),
          ]),
          lib.row('Completeness', 8, [
            lib.wide(6, lib.timeseries(
              'Coverage',
              'Share of resident pages that were read or verified unchanged within the last interval, on the worst ' +
              'host. Empty if nothing was read yet.',
              'percentunit',
              [lib.range('min(%s and %s)' % [of('cow_scan_coverage_ratio'), of('cow_scan_timestamp_seconds')], 'coverage')]
            ) + lib.shares),
            lib.wide(6, lib.timeseries(
              'Age of the oldest reading',
              'Age of the oldest reading in the values.',
              's',
              [lib.range(age, 'age')]
            )),
            lib.wide(6, lib.timeseries(
              'Processes not read',
              'Processes that are not in the sums, by reason.',
              'none',
              [lib.range(lib.sum('reason', of('cow_unread_processes')), '{{reason}}')]
            ) + lib.stacked + lib.steplike),
            lib.wide(6, lib.timeseries(
              'Modes',
              'How the exporter reads the members. Each mode in use counts 1 per host.',
              'none',
              [lib.range(lib.sum('mode', of('cow_group_mode')), '{{mode}}')]
            ) + lib.stacked + lib.steplike),
            lib.wide(6, lib.timeseries(
              'Not attributed',
              'Memory that differs between members but was never seen shared: it was copied or allocated before ' +
              'the first look.',
              'binBps',
              [lib.range(lib.total(lib.rate(of('cow_unattributed_bytes_total'))), 'unattributed')]
            )),
            lib.wide(6, lib.timeseries(
              'Not resolved, not matched',
              'Unresolved is swapped on one side or migrating. Unmatched is shared with processes that the ' +
              "exporter can't read.",
              'bytes',
              [
                lib.range(lib.total(of('cow_unresolved_bytes')), 'unresolved'),
                lib.range(lib.total(of('cow_unmatched_shared_bytes')), 'unmatched'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              "Breaks and the kernel's own count",
              "Breaks that the scan found, and the kernel's count of copied pages (collector delayacct). The " +
              'kernel also counts first writes to zero pages and private file pages, and copies of children that ' +
              'lived between two scans.',
              'cps',
              [
                lib.range(lib.total(lib.rate(of('cow_breaks_total'))), 'breaks'),
                lib.range(lib.total(lib.rate(of('cow_kernel_copies_total'))), "kernel's copies"),
                lib.range(lib.total(lib.rate(of('cow_minor_faults_total'))), 'minor faults'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              'Private memory and smaps',
              "Anonymous private memory by the scan, and the kernel's Private_Dirty and PSS (collector smaps).",
              'bytes',
              [
                lib.range(lib.total(of('cow_resident_bytes', 'backing="anon",sharing="private"')), 'private'),
                lib.range(lib.sum('field', of('cow_smaps_bytes', 'field=~"pss|private_dirty"')), '{{field}}'),
              ]
            )),
          ]),
        ]
      ),
  },
}

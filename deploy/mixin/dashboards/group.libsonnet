// One group: who writes where, what kinds of pages it has, what its forks cost, how far the numbers can be trusted.
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
      local usedUp = '%s / (%s > 0)' % [lib.total(exposure), lib.total(broken)];
      local forkCost(quantile) =
        'histogram_quantile(%s, %s)' % [quantile, lib.sum('le', lib.increase(of('cow_fork_break_bytes_bucket')))];

      lib.dashboard(
        config,
        lib.uids.group,
        'Copy-on-write / Group',
        'One group of processes: what it shares, who breaks it and in which mappings, what its forks cost, and how well all ' +
        'that is known.',
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
              'Families with two members or more: processes that descend from one another by fork without exec.',
              'none',
              [lib.now(lib.total(of('cow_families')), 'families')]
            )),
            lib.wide(3, lib.stat(
              'Exposure',
              'What sharing saves now: the group would grow by so much if every page it shares were written.',
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
              'Memory that was shared and was copied because a member wrote to it.',
              'binBps',
              [lib.now(lib.total(broken), 'broken')]
            )),
            lib.wide(3, lib.stat(
              'Used up in',
              'Exposure by the pace of breaks over the last minutes. New forks put it off. Empty while nothing is broken.',
              's',
              [lib.now(usedUp, 'used up')]
            ) + lib.thresholds('red', [[300, 'orange'], [3600, 'green']]) + lib.noValue('no breaks')),
            lib.wide(3, lib.stat(
              'Oldest forked child',
              'Age of the oldest living child that was made by fork. A child that stays keeps every page that its parent writes.',
              's',
              [lib.now(oldestChild, 'age')]
            ) + lib.noValue('no child')),
            lib.wide(3, lib.stat(
              'Mode',
              'How the group is read. "full" knows frames; the others know less, see the table of modes in HOW_EXACT.md.',
              'none',
              [lib.now('max by (mode) (%s) == 1' % of('cow_group_mode'), '{{mode}}')]
            ) + lib.names),
          ]),
          lib.row('Sharing', 9, [
            lib.wide(12, lib.timeseries(
              'Process view against physical view',
              'The process view adds up what each process maps, so a page that three share counts three times. The physical ' +
              'view counts it ' +
              'once. The distance between them is the exposure.',
              'bytes',
              [
                lib.range(lib.total(anonymous), 'process view'),
                lib.range(lib.total(of('cow_footprint_bytes')), 'physical view'),
                lib.range(lib.total(exposure), 'exposure'),
              ]
            ) + lib.dashed('exposure', 'orange')),
            lib.wide(12, lib.timeseries(
              'Anonymous memory, shared and private',
              'Process view. Private is what would be freed if these processes ended; unknown is what could not be told apart.',
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
              'Exposure by the pace of breaks. There is no line while nothing is broken.',
              's',
              [lib.range(usedUp, 'used up')]
            ) + lib.logarithmic),
          ]),
          lib.row('Breaks', 9, [
            lib.wide(8, lib.timeseries(
              'Pages broken, by side',
              "Parent is the family's root, its oldest living member; child is any other. With Redis the parent's writes during " +
              'a save, with ' +
              "prefork servers the workers' requests.",
              'cps',
              [lib.range(lib.sum('side', lib.rate(of('cow_breaks_total'))), '{{side}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Bytes broken, by mapping',
              'The same in bytes, by the kind of mapping that the writer has there.',
              'binBps',
              [lib.range(lib.sum('mapping', broken), '{{mapping}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Private without a copy',
              'Memory that ceased to be shared though nobody copied it: partners that ended or unmapped it, huge pages that ' +
              'were collapsed.',
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
              'Median and ninth decile of what ended children cost, from the histogram: as coarse as its buckets are.',
              'bytes',
              [lib.range(forkCost(0.5), 'median'), lib.range(forkCost(0.9), '90 %')]
            ) + { fieldConfig+: { defaults+: { custom+: { showPoints: 'always', spanNulls: true } } } }),
            lib.wide(8, lib.timeseries(
              'Forks',
              'Members that appeared by fork, each second. The blue marks on all panels are these.',
              'cps',
              [lib.range(lib.total(lib.rate(of('cow_forks_total'))), 'forks')]
            )),
          ]),
          lib.row('Kinds of pages', 8, [
            lib.wide(8, lib.timeseries(
              'Zero pages',
              'Memory that was read but never written: all of it is the same page of zeros and costs nothing.',
              'bytes',
              [lib.range(lib.sum('size', of('cow_zero_page_bytes')), '{{size}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Huge pages',
              'Memory in huge pages, process view, by what is behind it and how it is mapped.',
              'bytes',
              [lib.range(lib.sum('backing, mapped', of('cow_huge_page_bytes')), '{{backing}}, {{mapped}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Huge pages split by writes',
              'Huge pages that were found split where a member wrote. The first write to a shared huge page splits it.',
              'cps',
              [lib.range(lib.total(lib.rate(of('cow_huge_page_splits_total'))), 'splits')]
            )),
            lib.wide(8, lib.timeseries(
              'Pages of private file mappings',
              'Copied because the process wrote to them, or still those of the page cache: .data, RELRO, snapshots mapped ' +
              'privately.',
              'bytes',
              [lib.range(lib.sum('state', of('cow_private_file_bytes')), '{{state}}')]
            ) + lib.stacked),
            lib.wide(8, lib.timeseries(
              'Swapped',
              'Memory in swap. It is in none of the other sums.',
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
              'Usage, and what it would be if all exposure were broken, against the limit of the memory cgroup of the root. ' +
              'Empty where there is no limit.',
              'bytes',
              [
                lib.range('max(%s)' % usage, 'usage'),
                lib.range('max(%s) + %s' % [usage, lib.total(exposure)], 'usage, all broken'),
                lib.range('max(%s)' % limit, 'limit'),
              ]
            ) + lib.dashed('limit', 'red') + lib.dashed('usage, all broken', 'orange')),
            lib.wide(12, lib.timeseries(
              'Exposure beside what is left',
              "What is left of the cgroup's limit, and of the host's memory, beside the exposure: where the exposure is larger, " +
              'the group can be killed ' +
              "without allocating anything new. The host's line needs node_exporter under the same label %s." % node,
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
          lib.row('Who exactly', 8, [
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
          lib.row('How well it is known', 8, [
            lib.wide(6, lib.timeseries(
              'Coverage',
              'Share of the resident pages that the values rest on: read, or found unchanged, within the last interval. The ' +
              'worst host counts.',
              'percentunit',
              [lib.range('min(%s)' % of('cow_scan_coverage_ratio'), 'coverage')]
            ) + lib.shares),
            lib.wide(6, lib.timeseries(
              'Age of the oldest part',
              'How long ago the oldest reading was made that the values rest on.',
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
              'How the members are read; each mode in use counts one for each host.',
              'none',
              [lib.range(lib.sum('mode', of('cow_group_mode')), '{{mode}}')]
            ) + lib.stacked + lib.steplike),
            lib.wide(6, lib.timeseries(
              'Not attributed',
              'Memory that differs between members but was never seen shared: copied or allocated before the first look, nobody ' +
              'can tell.',
              'binBps',
              [lib.range(lib.total(lib.rate(of('cow_unattributed_bytes_total'))), 'unattributed')]
            )),
            lib.wide(6, lib.timeseries(
              'Not resolved, not matched',
              'Unresolved is swapped on one side or migrating; unmatched is shared with processes that can not be seen.',
              'bytes',
              [
                lib.range(lib.total(of('cow_unresolved_bytes')), 'unresolved'),
                lib.range(lib.total(of('cow_unmatched_shared_bytes')), 'unmatched'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              "Breaks beside the kernel's own count",
              'Pages that we saw broken, and pages that the kernel says it copied (collector delayacct). The kernel also counts ' +
              'first writes to zero ' +
              'pages and private file pages, and what children did that lived between two scans.',
              'cps',
              [
                lib.range(lib.total(lib.rate(of('cow_breaks_total'))), 'breaks'),
                lib.range(lib.total(lib.rate(of('cow_kernel_copies_total'))), "kernel's copies"),
                lib.range(lib.total(lib.rate(of('cow_minor_faults_total'))), 'minor faults'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              "Private memory beside smaps' own",
              'Anonymous private memory as we count it, and Private_Dirty and PSS as the kernel does (collector smaps).',
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

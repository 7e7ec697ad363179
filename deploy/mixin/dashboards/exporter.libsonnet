// The dashboard of the exporter itself: its cost, its progress within the CPU budget, and the state of its parts.
local lib = import 'lib.libsonnet';

{
  grafanaDashboards+:: {
    'cow-exporter.json':
      local config = $._config;
      local of = lib.of;
      local rate(metric) = lib.rate(of(metric));
      local perInstance(metric) = lib.sum('instance', rate(metric));

      lib.dashboard(
        config,
        lib.uids.exporter,
        'Copy-on-write / Exporter',
        'cow_exporter itself: cost of scanning, coverage, collectors, capabilities and memory.',
        'several',
        links=[lib.link('Overview', lib.uids.overview), lib.link('Group', lib.uids.group)],
        annotations=[lib.alerts(lib.of)],
        rows=[
          lib.row('Now', 4, [
            lib.wide(3, lib.stat(
              'Exporters',
              'Number of targets that answer, and of targets that Prometheus knows.',
              'none',
              [lib.now('sum(%s)' % of('up'), 'up'), lib.now('count(%s)' % of('up'), 'known')]
            ) + lib.named),
            lib.wide(3, lib.stat(
              'Versions',
              'Versions in use, with the number of exporters of each.',
              'none',
              [lib.now('count by (version) (%s)' % of('cow_exporter_build_info'), '{{version}}')]
            ) + lib.named),
            lib.wide(3, lib.stat(
              'Scan CPU',
              'Share of one CPU used for scanning, on the host with the highest share. scan.max_cpu limits it.',
              'percentunit',
              [lib.now('max(%s)' % perInstance('cow_scan_cpu_seconds_total'), 'CPU')]
            )),
            lib.wide(3, lib.stat(
              'Worst coverage',
              'Share of resident pages that were read or verified unchanged within the last interval, of the worst ' +
              'group that shares memory.',
              'percentunit',
              [lib.now('min(%s)' % lib.coverage(lib.ofGroups), 'coverage')]
            ) + lib.thresholds('red', [[0.5, 'orange'], [0.9, 'green']])),
            lib.wide(3, lib.stat(
              'Groups',
              'Number of exported groups.',
              'none',
              [lib.now('count(%s)' % lib.ofGroups('cow_processes'), 'groups')]
            )),
            lib.wide(3, lib.stat(
              'Groups over the limit',
              'Groups beyond limits.max_groups, which are summed up in group _other.',
              'none',
              [lib.now('sum(%s)' % of('cow_groups_overflowed'), 'groups')]
            ) + lib.thresholds('green', [[1, 'orange']])),
            lib.wide(3, lib.stat(
              'Configuration',
              'Yes if every exporter accepted its configuration at the last reload.',
              'bool_yes_no',
              [lib.now('min(%s)' % of('cow_exporter_config_last_reload_successful'), 'taken')]
            ) + lib.thresholds('red', [[1, 'green']]) + lib.mapped(lib.yesNo)),
            lib.wide(3, lib.stat(
              'Configuration read',
              'Time since the current configuration was read, on the host with the longest time.',
              's',
              [lib.now('time() - min(%s)' % of('cow_exporter_config_last_reload_success_timestamp_seconds'), 'ago')]
            ) + { options+: { graphMode: 'none' } }),
          ]),
          lib.row('Capabilities and collectors', 7, [
            lib.wide(8, lib.stat(
              'Capabilities',
              'Features that the kernel and the rights of the exporter allow on every host. Without frames there ' +
              'is no exposure and no side.',
              'bool_yes_no',
              [lib.now('min by (feature) (%s)' % of('cow_exporter_capability'), '{{feature}}')]
            ) + lib.thresholds('red', [[1, 'green']]) + lib.mapped(lib.yesNo) + lib.named),
            lib.wide(8, lib.timeseries(
              'Collectors that succeed',
              'Share of the exporters on which each collector succeeded. A collector that is off has no line.',
              'percentunit',
              [lib.range('avg by (collector) (%s)' % of('cow_scrape_collector_success'), '{{collector}}')]
            ) + lib.shares + lib.steplike),
            lib.wide(8, lib.timeseries(
              'Duration of collectors',
              'Time that each collector took in the last pass, on the slowest host.',
              's',
              [lib.range('max by (collector) (%s)' % of('cow_scrape_collector_duration_seconds'), '{{collector}}')]
            )),
          ]),
          lib.row('Scanning', 8, [
            lib.wide(8, lib.timeseries(
              'Scan CPU',
              'Share of one CPU used for scanning. scan.max_cpu limits it to 0.1 by default.',
              'percentunit',
              [lib.range(perInstance('cow_scan_cpu_seconds_total'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Duration of a pass',
              'Wall time of the last completed pass, including waits for its CPU budget. A pass that takes longer ' +
              'than scan.interval spans several intervals.',
              's',
              [lib.range('max by (instance) (%s)' % of('cow_scan_duration_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Passes',
              'Completed passes: full ones read everything, incremental ones what changed; early ones were brought ' +
              'forward by a fork.',
              'cps',
              [
                lib.range(lib.sum('kind', rate('cow_scan_passes_total')), '{{kind}}'),
                lib.range(lib.total(rate('cow_scan_early_passes_total')), 'early'),
              ]
            )),
            lib.wide(8, lib.timeseries(
              'Page-table entries read',
              'Entries read from pagemap.',
              'cps',
              [lib.range(perInstance('cow_scan_pages_total'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'System calls and frame words',
              'System calls that read page tables, by file, and words read from kpageflags and kpagecount.',
              'cps',
              [
                lib.range(lib.sum('file', rate('cow_scan_calls_total')), 'calls, {{file}}'),
                lib.range(lib.total(rate('cow_scan_frame_words_total')), 'words'),
              ]
            )),
            lib.wide(8, lib.timeseries(
              'CPU time of a page',
              'CPU time of scanning per page-table entry read. It rises if little has changed and few entries are ' +
              'read.',
              's',
              [lib.range(
                '%s / (%s > 0)' % [perInstance('cow_scan_cpu_seconds_total'), perInstance('cow_scan_pages_total')],
                '{{instance}}'
              )]
            )),
            lib.wide(8, lib.timeseries(
              'Unchanged processes',
              'Processes that the last pass did not read because nothing indicated a change.',
              'none',
              [lib.range('sum by (instance) (%s)' % of('cow_scan_skipped_processes'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Windows',
              'Windows of 2 MiB that were unchanged, windows that were read again to confirm a verdict, and pauses ' +
              'between two windows of a process.',
              'cps',
              [
                lib.range(lib.total(rate('cow_scan_unchanged_windows_total')), 'unchanged'),
                lib.range(lib.total(rate('cow_scan_windows_read_again_total')), 'read again'),
                lib.range(lib.total(rate('cow_scan_rests_total')), 'rests'),
              ]
            )),
            lib.wide(8, lib.timeseries(
              'Unstable pages and lost events',
              'Pages that kept changing while they were read, and the number of times that fork events were lost.',
              'cps',
              [
                lib.range(lib.total(rate('cow_scan_unstable_pages_total')), 'unstable pages'),
                lib.range(lib.total(rate('cow_fork_events_overruns_total')), 'lost fork events'),
              ]
            )),
          ]),
          lib.row('Coverage and age', 8, [
            lib.wide(8, lib.timeseries(
              'Coverage',
              'Share of resident pages that were read or verified unchanged within the last interval, of the worst ' +
              'group that shares memory.',
              'percentunit',
              [lib.range('min by (instance) (%s)' % lib.coverage(lib.ofGroups), '{{instance}}')]
            ) + lib.shares),
            lib.wide(8, lib.timeseries(
              'Age of the oldest reading',
              'Age of the oldest reading in the values of any group. scan.full_every limits how long a change can ' +
              'be missed.',
              's',
              [lib.range('time() - min by (instance) (%s)' % lib.ofGroups('cow_scan_timestamp_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Saved on the host and by all groups',
              "Two independent values: the sum of all processes' RssAnon minus the kernel's AnonPages, and the " +
              'exposure of the selected groups.',
              'bytes',
              [
                lib.range(lib.total(of('cow_host_saved_bytes')), 'host'),
                lib.range(lib.total(lib.ofGroups('cow_exposure_bytes')), 'groups'),
              ]
            ) + lib.dashed('host', 'orange')),
          ]),
          lib.row('Process', 8, [
            lib.wide(6, lib.timeseries(
              'CPU',
              'Share of one CPU used by the whole exporter.',
              'percentunit',
              [lib.range(perInstance('process_cpu_seconds_total'), '{{instance}}')]
            )),
            lib.wide(6, lib.timeseries(
              'Memory',
              'Resident memory, and the parts of it for records of shared pages (ledger) and for the latest look ' +
              'at each process.',
              'bytes',
              [
                lib.range('sum by (instance) (%s)' % of('process_resident_memory_bytes'), '{{instance}} resident'),
                lib.range('sum by (instance) (%s)' % of('cow_ledger_bytes'), '{{instance}} ledger'),
                lib.range('sum by (instance) (%s)' % of('cow_scan_looks_bytes'), '{{instance}} looks'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              'File descriptors',
              'Open file descriptors as a share of their limit.',
              'percentunit',
              [lib.range('max by (instance) (%s / %s)' % [of('process_open_fds'), of('process_max_fds')], '{{instance}}')]
            )),
            lib.wide(6, lib.timeseries(
              'Uptime',
              'Time since the exporter started. A start resets all counters.',
              's',
              [lib.range('time() - max by (instance) (%s)' % of('process_start_time_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Duration of scrapes',
              'Duration of a scrape as Prometheus measures it. At scan.interval 0 it includes the pass.',
              's',
              [lib.range('max by (instance) (%s)' % of('scrape_duration_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Samples of a scrape',
              'Number of samples in one scrape. It grows with the number of groups.',
              'none',
              [lib.range('max by (instance) (%s)' % of('scrape_samples_scraped'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Scrapes that succeed',
              'Share of scrapes that the target answered.',
              'percentunit',
              [lib.range('avg by (instance) (avg_over_time(%s[$__rate_interval]))' % of('up'), '{{instance}}')]
            ) + lib.shares),
          ]),
        ]
      ),
  },
}

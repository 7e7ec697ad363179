// The exporter itself: what it costs, how far it gets within its budget, whether its parts work.
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
        'cow_exporter itself: cost of scanning, coverage, collectors, capabilities, memory of its own.',
        'several',
        links=[lib.link('Overview', lib.uids.overview), lib.link('Group', lib.uids.group)],
        annotations=[lib.alerts(lib.of)],
        rows=[
          lib.row('Now', 4, [
            lib.wide(3, lib.stat(
              'Exporters',
              'Targets that answer, of those that Prometheus knows.',
              'none',
              [lib.now('sum(%s)' % of('up'), 'up'), lib.now('count(%s)' % of('up'), 'known')]
            ) + lib.named),
            lib.wide(3, lib.stat(
              'Versions',
              'Versions in use, with the number of exporters that run each.',
              'none',
              [lib.now('count by (version) (%s)' % of('cow_exporter_build_info'), '{{version}}')]
            ) + lib.named),
            lib.wide(3, lib.stat(
              'Scan CPU',
              'CPU time of scanning, of one CPU, on the host where it is most. scan.max_cpu bounds it.',
              'percentunit',
              [lib.now('max(%s)' % perInstance('cow_scan_cpu_seconds_total'), 'CPU')]
            )),
            lib.wide(3, lib.stat(
              'Worst coverage',
              'Smallest share of its resident pages that the values of any group rest on.',
              'percentunit',
              [lib.now('min(%s)' % lib.ofGroups('cow_scan_coverage_ratio'), 'coverage')]
            ) + lib.thresholds('red', [[0.5, 'orange'], [0.9, 'green']])),
            lib.wide(3, lib.stat(
              'Groups',
              'Groups that are exported.',
              'none',
              [lib.now('count(%s)' % lib.ofGroups('cow_processes'), 'groups')]
            )),
            lib.wide(3, lib.stat(
              'Groups over the limit',
              'Groups beyond limits.max_groups: they are added up in the group _other.',
              'none',
              [lib.now('sum(%s)' % of('cow_groups_overflowed'), 'groups')]
            ) + lib.thresholds('green', [[1, 'orange']])),
            lib.wide(3, lib.stat(
              'Configuration',
              'Whether every exporter took its configuration when it last read it.',
              'bool_yes_no',
              [lib.now('min(%s)' % of('cow_exporter_config_last_reload_successful'), 'taken')]
            ) + lib.thresholds('red', [[1, 'green']]) + lib.mapped(lib.yesNo)),
            lib.wide(3, lib.stat(
              'Configuration read',
              'How long ago the configuration in force was read, where that is longest.',
              's',
              [lib.now('time() - min(%s)' % of('cow_exporter_config_last_reload_success_timestamp_seconds'), 'ago')]
            ) + { options+: { graphMode: 'none' } }),
          ]),
          lib.row('Capabilities and collectors', 7, [
            lib.wide(8, lib.stat(
              'Capabilities',
              'What the kernel and the rights of the exporter allow, on the host where it is least. Without frames there is no ' +
              'exposure and no side.',
              'bool_yes_no',
              [lib.now('min by (feature) (%s)' % of('cow_exporter_capability'), '{{feature}}')]
            ) + lib.thresholds('red', [[1, 'green']]) + lib.mapped(lib.yesNo) + lib.named),
            lib.wide(8, lib.timeseries(
              'Collectors that succeed',
              'Share of the exporters on which each collector succeeded. One that is off has no line.',
              'percentunit',
              [lib.range('avg by (collector) (%s)' % of('cow_scrape_collector_success'), '{{collector}}')]
            ) + lib.shares + lib.steplike),
            lib.wide(8, lib.timeseries(
              'Duration of collectors',
              'What each collector took at the last scrape, on the slowest host.',
              's',
              [lib.range('max by (collector) (%s)' % of('cow_scrape_collector_duration_seconds'), '{{collector}}')]
            )),
          ]),
          lib.row('Scanning', 8, [
            lib.wide(8, lib.timeseries(
              'Scan CPU',
              'CPU time of scanning, of one CPU. scan.max_cpu bounds it, a tenth unless told otherwise.',
              'percentunit',
              [lib.range(perInstance('cow_scan_cpu_seconds_total'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Duration of a pass',
              'Wall time of the last completed pass, waiting for its budget included. Longer than scan.interval means that ' +
              'passes span intervals.',
              's',
              [lib.range('max by (instance) (%s)' % of('cow_scan_duration_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Passes',
              'Completed passes: full ones read everything, incremental ones what changed; early ones were brought forward by a ' +
              'fork.',
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
              'CPU time of scanning for each page-table entry that was read. It rises where little is read because little changed.',
              's',
              [lib.range(
                '%s / (%s > 0)' % [perInstance('cow_scan_cpu_seconds_total'), perInstance('cow_scan_pages_total')],
                '{{instance}}'
              )]
            )),
            lib.wide(8, lib.timeseries(
              'What was spared',
              'Processes that the last pass did not read since nothing of them had changed.',
              'none',
              [lib.range('sum by (instance) (%s)' % of('cow_scan_skipped_processes'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Windows',
              'Windows of 2 MiB: read and found as before, read twice for a new verdict; and rests that were given to the ' +
              'processes read.',
              'cps',
              [
                lib.range(lib.total(rate('cow_scan_unchanged_windows_total')), 'unchanged'),
                lib.range(lib.total(rate('cow_scan_windows_read_again_total')), 'read again'),
                lib.range(lib.total(rate('cow_scan_rests_total')), 'rests'),
              ]
            )),
            lib.wide(8, lib.timeseries(
              'Unsettled',
              'Pages that kept changing while they were read, and fork events that were lost and replaced by a listing.',
              'cps',
              [
                lib.range(lib.total(rate('cow_scan_unstable_pages_total')), 'unstable pages'),
                lib.range(lib.total(rate('cow_fork_events_overruns_total')), 'lost fork events'),
              ]
            )),
          ]),
          lib.row('How far it gets', 8, [
            lib.wide(8, lib.timeseries(
              'Coverage',
              'Share of the resident pages that the values rest on, of the group that has least.',
              'percentunit',
              [lib.range('min by (instance) (%s)' % lib.ofGroups('cow_scan_coverage_ratio'), '{{instance}}')]
            ) + lib.shares),
            lib.wide(8, lib.timeseries(
              'Age of the oldest part',
              'How long ago the oldest reading was made that the values of any group rest on. scan.full_every bounds what ' +
              'changes unseen.',
              's',
              [lib.range('time() - min by (instance) (%s)' % lib.ofGroups('cow_scan_timestamp_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Saved on the host, and by all groups',
              "The host's own witness, the sum of all processes' RssAnon less the kernel's AnonPages, beside the exposure of " +
              'the groups chosen.',
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
              'CPU time of the whole exporter, of one CPU.',
              'percentunit',
              [lib.range(perInstance('process_cpu_seconds_total'), '{{instance}}')]
            )),
            lib.wide(6, lib.timeseries(
              'Memory',
              'Resident memory, and of it the records of shared pages (ledger) and of what each process showed at its latest look.',
              'bytes',
              [
                lib.range('sum by (instance) (%s)' % of('process_resident_memory_bytes'), '{{instance}} resident'),
                lib.range('sum by (instance) (%s)' % of('cow_ledger_bytes'), '{{instance}} ledger'),
                lib.range('sum by (instance) (%s)' % of('cow_scan_looks_bytes'), '{{instance}} looks'),
              ]
            )),
            lib.wide(6, lib.timeseries(
              'File descriptors',
              'Open file descriptors, of those that may be open.',
              'percentunit',
              [lib.range('max by (instance) (%s / %s)' % [of('process_open_fds'), of('process_max_fds')], '{{instance}}')]
            )),
            lib.wide(6, lib.timeseries(
              'Uptime',
              'Since the exporter started. Counters begin anew at a start.',
              's',
              [lib.range('time() - max by (instance) (%s)' % of('process_start_time_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Duration of scrapes',
              'What a scrape takes as Prometheus sees it. At scan.interval 0 the pass is in it.',
              's',
              [lib.range('max by (instance) (%s)' % of('scrape_duration_seconds'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Samples of a scrape',
              'Samples that one scrape brings; they grow with the number of groups.',
              'none',
              [lib.range('max by (instance) (%s)' % of('scrape_samples_scraped'), '{{instance}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Scrapes that succeed',
              'Share of the scrapes in which the target answered.',
              'percentunit',
              [lib.range('avg by (instance) (avg_over_time(%s[$__rate_interval]))' % of('up'), '{{instance}}')]
            ) + lib.shares),
          ]),
        ]
      ),
  },
}

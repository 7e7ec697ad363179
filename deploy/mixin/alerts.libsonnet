// Alerts. deploy/runbooks explains each alert and what to do.
local duration = import 'duration.libsonnet';

// For descriptions: the first result of a query, in which SELF stands for the alert's own labels. Empty without a
// result.
local first(query, labels, what) =
  '{{ with printf `%s` %s | query }}{{ . | first | %s }}{{ end }}' % [
    std.strReplace(query, 'SELF', std.join(', ', [label + '=%q' for label in labels])),
    std.join(' ', ['$labels.' + label for label in labels]),
    what,
  ];
local valueOf(query, labels, format) = first(query, labels, 'value | ' + format);
local labelOf(query, labels, name) = first(query, labels, 'label `%s`' % name);

// A group's name may contain anything, so commands quote it for the shell.
local quoted = "reReplaceAll `'` `'\\''`";

{
  local c = $._config {
    explosionSeconds: duration.seconds($._config.explosionHorizon),
    explosionUrgentSeconds: duration.seconds($._config.explosionUrgentHorizon),
    explosionMoreSeconds: duration.seconds($._config.explosionCriticalHorizon) - self.explosionUrgentSeconds,
    exceedsSeconds: duration.seconds($._config.exceedsHorizon),
    collapseSeconds: duration.seconds($._config.collapseChildAge),
    slowSeconds: duration.seconds($._config.slowInterval),
    forkIdleSeconds: duration.seconds($._config.forkIdleTime),
    forkSeconds: duration.seconds($._config.forkAge),
    // Looks back in steps of a third of consumedWindow, from the first step whose window covers the child's life until
    // then.
    local third = std.max(1, std.floor(duration.seconds($._config.consumedWindow) / 3)),
    forkBreaks: 'max_over_time((group:cow_break_bytes:increase%s%%s and group:cow_oldest_child_age:seconds > %d)[%s:%ds])' %
                [$._config.consumedWindow, 2 * third, $._config.forkWindow, third],
    forkBreaksOfAll: self.forkBreaks % '',
    // PromQL's names of the joined sides.
    available: 'max by (%(nodeLabel)s) (node_memory_MemAvailable_bytes{%(nodeSelector)s})' % $._config,
    cgroupLeft: 'clamp_min(cow_cgroup_memory_limit_bytes{%(cowSelector)s} - cow_cgroup_memory_usage_bytes{%(cowSelector)s}, 0)' %
                $._config,
    children: 'group:cow_children:present[%(forkWindow)s]' % $._config,
    age: 'group:cow_oldest_child_age:seconds' + (
      local matchers = (if $._config.forkGroups == '' then [] else ['group=~"%(forkGroups)s"' % $._config]) +
                       (if $._config.forkGroupsExcept == '' then [] else ['group!~"%(forkGroupsExcept)s"' % $._config]);
      if matchers == [] then '' else '{' + std.join(', ', matchers) + '}'
    ),
    // Seconds, by group: longer for groups that have lost much of their exposure.
    explosionCriticalHorizonOfGroup:
      '%(explosionUrgentSeconds)d + %(explosionMoreSeconds)d * (group:cow_exposure_consumed:ratio%(consumedWindow)s ' % self +
      '> bool %(explosionCriticalConsumedRatio)g)' % self,
    splits: 'increase(cow_huge_page_splits_total{%(cowSelector)s}[%(hugePageWindow)s])' % $._config,
  },
  // The page of an exporter; `instance` is an expression of the template. If the exporter is down, another exporter that
  // answers shows the page; if none does, the link names the file that the packages install.
  local pageOf(instance, name) =
    '%s://{{ %s }}{{ if not (match `:[0-9]+$` %s) }}:%d{{ end }}/runbooks/%s' %
    [c.exporterScheme, instance, instance, c.exporterPort, name],
  local runbook(name) =
    if c.runbookUrl != null then c.runbookUrl + name + '.md'
    else if name != 'CowExporterDown' then pageOf('$labels.instance', name)
    else '{{ with printf `up{job=%q} == 1` $labels.job | query }}{{ with . | first | label `instance` }}' +
         pageOf('.', name) + '{{ end }}{{ else }}file:///usr/share/doc/cow-exporter/deploy/runbooks/' + name + '.md{{ end }}',
  local alert(name, severity, wait, summary, description, expr) = {
    alert: name,
    expr: expr % c,
    [if wait != '0s' then 'for']: wait,
    labels: { severity: severity },
    annotations: {
      summary: summary,
      description: description,
      runbook_url: runbook(name),
    },
  },
  local ofInstance = c.targetLabels,
  local ofGroup = c.targetLabels + ['group'],
  local fastRate = valueOf('group:cow_break_bytes:rate%s{SELF}' % c.fastWindow, ofGroup, 'humanize1024') + 'B/s',
  local slowRate = valueOf('group:cow_break_bytes:rate%s{SELF}' % c.slowWindow, ofGroup, 'humanize1024') + 'B/s',
  local instanceRate = valueOf('instance:cow_break_bytes:rate%s{SELF}' % c.fastWindow, ofInstance, 'humanize1024') + 'B/s',
  local exposure = valueOf('cow_exposure_bytes{SELF}', ofGroup, 'humanize1024') + 'B',
  // The last sentence of a description.
  local run(command) = ' Run on {{ $labels.instance }}: ' + command,
  // The group of an instance that shares most of those that are copying.
  local largest =
    'topk(1, cow_exposure_bytes{SELF} and group:cow_break_bytes:rate%s > %d)' % [c.slowWindow, c.breakingBytesPerSecond],
  local explain(group) =
    "cow_exporter explain --group '%s'" % group +
    (if c.exporterConfigFile == '' then '' else ' --config.file=' + c.exporterConfigFile),
  local runExplain = run(explain('{{ $labels.group | %s }}' % quoted)),

  prometheusAlerts+:: {
    groups+: [
      {
        name: 'cow_exporter.alerts',
        [if c.interval != null then 'interval']: c.interval,
        rules: [
          alert(
            'CowExplosion',
            'warning',
            c.explosionFor,
            'Copy-on-write sharing is being lost fast.',
            'Group {{ $labels.group }} on {{ $labels.instance }} breaks ' + fastRate + ' of shared memory. ' + exposure +
            ' are still shared and will be copied in {{ $value | humanizeDuration }} at this rate.' + runExplain,
            |||
              group:cow_exposure_exhaustion:seconds < %(explosionSeconds)d
              and
              group:cow_break_bytes:rate%(fastWindow)s > %(explosionBytesPerSecond)d
              and
              group:cow_exposure_consumed:ratio%(consumedWindow)s > %(explosionConsumedRatio)g
            |||,
          ),
          alert(
            'CowExplosion',
            'critical',
            c.explosionCriticalFor,
            'Copy-on-write is about to use up the memory.',
            // The value shows which of the two conditions holds: the host's value is the same for all its groups.
            'Group {{ $labels.group }} on {{ $labels.instance }} breaks ' + fastRate + ' of shared memory and still shares ' +
            exposure + '. {{ with printf `instance:cow_memory_exhaustion:seconds{%s} == %%g` %s $value | query }}' % [
              std.join(', ', [label + '=%q' for label in ofInstance]),
              std.join(' ', ['$labels.' + label for label in ofInstance]),
            ] + 'At the rate of all groups of this host, ' + instanceRate + ", the host's available memory is used up in " +
            '{{ $value | humanizeDuration }}.{{ else }}' +
            "At this rate the rest of its cgroup's limit is used up in {{ $value | humanizeDuration }}.{{ end }}" + runExplain,
            |||
              (
                (
                  group:cow_break_bytes:rate%(fastWindow)s > %(breakingBytesPerSecond)d
                  and
                  group:cow_break_bytes:rate%(fastWindow)s
                  >= ignoring (group) group_left ()
                  %(explosionShareRatio)g * max without (group) (group:cow_break_bytes:rate%(fastWindow)s)
                ) * 0
                + ignoring (group) group_left ()
                instance:cow_memory_exhaustion:seconds
                < %(explosionCriticalHorizonOfGroup)s
                and ignoring (group)
                sum without (group) (
                  cow_exposure_bytes{%(cowSelector)s} and group:cow_break_bytes:rate%(fastWindow)s > %(breakingBytesPerSecond)d
                )
                > on (%(nodeLabel)s) group_left ()
                %(explosionHeadroomRatio)g * %(available)s
              )
              or
              (
                group:cow_cgroup_headroom_bytes / group:cow_break_bytes:rate%(fastWindow)s
                < %(explosionCriticalHorizonOfGroup)s
                and
                group:cow_break_bytes:rate%(fastWindow)s > %(breakingBytesPerSecond)d
                and
                cow_exposure_bytes{%(cowSelector)s} > %(explosionHeadroomRatio)g * group:cow_cgroup_headroom_bytes
              )
            |||,
          ),
          alert(
            'CowExposureExceedsAvailable',
            'warning',
            c.exceedsFor,
            'More memory may be copied on write than the host has left.',
            'Services on {{ $labels.instance }} that are copying still share {{ $value | humanize1024 }}B, more than the host ' +
            'has available, and break ' + valueOf('instance:cow_break_bytes:rate%s{SELF}' % c.slowWindow, ofInstance, 'humanize1024') +
            'B/s: at this rate memory is used up within ' + c.exceedsHorizon + '. Most is shared by group ' +
            labelOf(largest, ofInstance, 'group') + '.' +
            run(explain(first(largest, ofInstance, 'label `group` | ' + quoted))),
            |||
              sum without (group) (
                cow_exposure_bytes{%(cowSelector)s} and group:cow_break_bytes:rate%(slowWindow)s > %(breakingBytesPerSecond)d
              )
              > on (%(nodeLabel)s) group_left ()
              %(available)s
              and
              instance:cow_break_bytes:rate%(slowWindow)s * %(exceedsSeconds)d
              > on (%(nodeLabel)s) group_left ()
              %(available)s
            |||,
          ),
          alert(
            'CowExposureExceedsContainerLimit',
            'warning',
            c.exceedsFor,
            "More memory may be copied on write than the cgroup's limit leaves.",
            'Group {{ $labels.group }} on {{ $labels.instance }} still shares {{ $value | humanize1024 }}B, more than the rest ' +
            "of its cgroup's memory limit (" + valueOf('cow_cgroup_memory_limit_bytes{SELF}', ofGroup, 'humanize1024') +
            'B, ' + valueOf('cow_cgroup_memory_usage_bytes{SELF}', ofGroup, 'humanize1024') + 'B used), and breaks ' + slowRate +
            ': at this rate the limit is reached within ' + c.exceedsHorizon + '.' + runExplain,
            |||
              cow_exposure_bytes{%(cowSelector)s}
              > %(cgroupLeft)s
              and
              group:cow_break_bytes:rate%(slowWindow)s > %(breakingBytesPerSecond)d
              and
              group:cow_break_bytes:rate%(slowWindow)s * %(exceedsSeconds)d
              > %(cgroupLeft)s
            |||,
          ),
          alert(
            'CowHugePageSplits',
            'info',
            c.hugePageFor,
            'Writes to shared memory split huge pages.',
            'Group {{ $labels.group }} on {{ $labels.instance }} had {{ $value | printf `%.0f` }} huge pages split by writes to ' +
            'shared memory within ' + c.hugePageWindow + ', more than ' + '%g' % (100 * c.hugePageRatio) +
            ' % of its huge pages.' + runExplain,
            |||
              %(splits)s >= %(hugePageSplits)d
              and
              %(splits)s * %(hugePageBytes)d
              > %(hugePageRatio)g * (
                %(splits)s * %(hugePageBytes)d
                + sum without (backing, mapped) (cow_huge_page_bytes{%(cowSelector)s, backing="anon", mapped="pmd"})
              )
            |||,
          ),
          alert(
            'CowExporterDown',
            'warning',
            c.downFor,
            'cow_exporter does not answer.',
            "{{ if $labels.instance }}Prometheus can't scrape cow_exporter on {{ $labels.instance }}{{ else }}Prometheus has no " +
            "target of cow_exporter{{ end }}; alerts on copy-on-write can't fire{{ if $labels.instance }} there{{ end }}. " +
            'Run on {{ if $labels.instance }}{{ $labels.instance }}{{ else }}each host{{ end }}: systemctl status cow_exporter',
            |||
              up{%(cowSelector)s} == 0
              or
              absent(up{%(cowSelector)s})
            |||,
          ),
          alert(
            'CowCollectorFailing',
            'warning',
            c.collectorFor,
            'A collector of cow_exporter fails.',
            'Collector {{ $labels.collector }} of cow_exporter on {{ $labels.instance }} fails: its metrics are missing.' +
            run('journalctl -u cow_exporter -n 50'),
            |||
              cow_scrape_collector_success{%(cowSelector)s} == 0
            |||,
          ),
          alert(
            'CowCoverageLow',
            'warning',
            c.coverageFor,
            'Values of cow_exporter rest on old readings.',
            'Only {{ $value | humanizePercentage }} of the resident memory of group {{ $labels.group }} on ' +
            '{{ $labels.instance }} was fresh over ' + c.coverageWindow + ': its exposure and breaks are late or unknown.' +
            runExplain,
            |||
              avg_over_time(cow_scan_coverage_ratio{%(cowSelector)s}[%(coverageWindow)s]) < %(coverageRatio)g
              and
              cow_processes{%(cowSelector)s} > 0
            |||,
          ),
          alert(
            'CowConfigReloadFailed',
            'warning',
            c.reloadFor,
            'cow_exporter runs with an old configuration.',
            'cow_exporter on {{ $labels.instance }} refused its configuration at the last reload and still uses the previous ' +
            'one.' + run('cow_exporter --config.check --config.file=' + (if c.exporterConfigFile == '' then 'FILE' else c.exporterConfigFile)),
            |||
              cow_exporter_config_last_reload_successful{%(cowSelector)s} == 0
            |||,
          ),
        ],
      },
      {
        // These alerts look back for hours.
        name: 'cow_exporter.slow.alerts',
        interval: c.slowInterval,
        rules: [
          alert(
            'CowSharingCollapsed',
            'warning',
            c.collapseFor,
            'Workers have lost much of their shared memory.',
            'Group {{ $labels.group }} on {{ $labels.instance }} shares {{ $value | humanizePercentage }} of its anonymous ' +
            'memory; the maximum within ' + c.collapseWindow + ' was ' +
            valueOf('max_over_time(group:cow_sharing:ratio{SELF}[%s])' % c.collapseWindow, ofGroup, 'humanizePercentage') +
            '. Its processes map ' + valueOf('cow_shared_bytes{SELF}', ofGroup, 'humanize1024') + 'B of shared memory.' +
            runExplain,
            |||
              group:cow_sharing:ratio
              < %(collapseRatio)g * (max_over_time(group:cow_sharing:ratio[%(collapseWindow)s]) >= %(collapseFromRatio)g)
              and
              cow_shared_bytes{%(cowSelector)s}
              < %(collapseRatio)g * max_over_time(cow_shared_bytes{%(cowSelector)s}[%(collapseWindow)s])
              and
              max_over_time(cow_shared_bytes{%(cowSelector)s}[%(collapseWindow)s]) - cow_shared_bytes{%(cowSelector)s}
              >= %(collapseBytes)d
              and
              quantile_over_time(0.5, cow_families{%(cowSelector)s}[%(collapseWindow)s]) > 0
              and
              group:cow_oldest_child_age:seconds > %(collapseSeconds)d
            |||,
          ),
          alert(
            'CowForkStuck',
            'warning',
            c.forkFor,
            'A forked child lives longer than expected.',
            'The oldest child of group {{ $labels.group }} on {{ $labels.instance }} is {{ $value | humanizeDuration }} old; ' +
            'others end sooner. Up to ' + valueOf(c.forkBreaks % '{SELF}', ofGroup, 'humanize1024') +
            'B of its shared memory were copied within ' + c.consumedWindow + ', and ' + exposure + ' are still shared.' +
            runExplain,
            |||
              %(age)s > %(forkSeconds)d
              and
              (count_over_time(%(children)s) - sum_over_time(%(children)s)) * %(slowSeconds)d >= %(forkIdleSeconds)d
              and
              %(forkBreaksOfAll)s
              >= %(forkBreakBytes)d
              unless
              %(age)s
              < %(forkAgeFactor)d * (sum_over_time(%(children)s) * %(slowSeconds)d - %(age)s)
              / (increase(cow_fork_break_bytes_count{%(cowSelector)s}[%(forkWindow)s]) > 0)
            |||,
          ),
        ],
      },
    ],
  },
}

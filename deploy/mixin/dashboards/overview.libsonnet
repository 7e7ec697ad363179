// The dashboard of all groups of all hosts: their exposure, the rate of breaks, and the time until memory is used up.
local lib = import 'lib.libsonnet';

{
  grafanaDashboards+:: {
    'cow-overview.json':
      local config = $._config;
      local node = config.nodeLabel;

      local exposure = lib.ofGroups('cow_exposure_bytes');
      local footprint = lib.ofGroups('cow_footprint_bytes');
      local broken = lib.rate(lib.ofGroups('cow_break_bytes_total'));
      local anonymous = lib.ofGroups('cow_resident_bytes', 'backing="anon"');
      local anonymousShared = lib.ofGroups('cow_resident_bytes', 'backing="anon",sharing="shared"');
      local coverage = lib.coverage(lib.ofGroups);
      local age = 'time() - ' + lib.ofGroups('cow_scan_timestamp_seconds');
      local unread = lib.ofGroups('cow_unread_processes');

      local ratio(by) = lib.quotient(lib.sum(by, anonymousShared), lib.sum(by, anonymous));
      // Only groups that break pages now have a time.
      local usedUp(by) = lib.usedUp(by, lib.ofGroups);
      local memoryGone = '%s / on (%s) (%s > 0)' % [lib.memoryAvailable(config), node, lib.sum(node, lib.breaking(lib.ofGroups))];
      local byRow(expression) = lib.sum('job, instance, group', expression);

      local groupLink = {
        title: 'Show the group',
        url: '/d/%s?${datasource:queryparam}&var-job=${__data.fields.Job:percentencode}' % lib.uids.group +
             '&var-instance=${__data.fields.Instance:percentencode}&var-group=${__data.fields.Group:percentencode}&${__url_time_range}',
        targetBlank: false,
      };

      lib.dashboard(
        config,
        lib.uids.overview,
        'Copy-on-write / Overview',
        'Memory that copy-on-write saves for each group of processes, how fast it is lost, and how long it lasts.',
        'several',
        links=[lib.link('Group', lib.uids.group), lib.link('Exporter', lib.uids.exporter)],
        annotations=[lib.alerts(lib.of)],
        rows=[
          lib.row('Now', 4, [
            lib.wide(4, lib.stat(
              'Exposure',
              'Memory that sharing saves now: the groups would grow by this much if they wrote to every shared page.',
              'bytes',
              [lib.now(lib.total(exposure), 'exposure')]
            )),
            lib.wide(4, lib.stat(
              'Footprint',
              'Anonymous memory of the groups, each physical page counted once.',
              'bytes',
              [lib.now(lib.total(footprint), 'footprint')]
            )),
            lib.wide(4, lib.stat(
              'Broken per second',
              'Shared memory that was copied because a process wrote to it.',
              'binBps',
              [lib.now(lib.total(broken), 'broken')]
            )),
            lib.wide(4, lib.stat(
              'Shared part',
              'Share of the anonymous memory mapped by the processes that another process maps too.',
              'percentunit',
              [lib.now(ratio(''), 'shared')]
            )),
            lib.wide(4, lib.stat(
              'First exposure used up in',
              'Shortest time until a group has broken all its shared memory, at its rate over the last minutes. ' +
              'New forks increase it. Empty without breaks, and for groups that share nothing any more.',
              's',
              [lib.now('min(%s)' % usedUp('job, instance, group'), 'used up')]
            ) + lib.thresholds('red', [[300, 'orange'], [3600, 'green']]) + lib.noValue('no breaks')),
            lib.wide(4, lib.stat(
              'First memory exhausted in',
              'Shortest time until the breaks of a host, at their present rate, have used up its available memory. ' +
              "Needs node_exporter's MemAvailable with the same label %s." % node,
              's',
              [lib.now('min(%s)' % memoryGone, 'exhausted')]
            ) + lib.thresholds('red', [[600, 'orange'], [7200, 'green']]) + lib.noValue('no breaks')),
          ]),
          lib.row('Groups', 10, [
            lib.wide(24, lib.table(
              'Groups by exposure',
              'One line for each group and host. The name leads to the dashboard of the group. "Used up in" is ' +
              'exposure divided by the rate of breaks; it is empty without breaks. Coverage is empty for groups that share nothing.',
              [['group', 'Group'], ['instance', 'Instance'], ['job', 'Job']],
              [
                { title: 'Processes', unit: 'none', expr: byRow(lib.ofGroups('cow_processes')) },
                { title: 'Exposure', unit: 'bytes', expr: byRow(exposure), properties: [
                  { id: 'custom.cellOptions', value: { type: 'gauge', mode: 'basic', valueDisplayMode: 'text' } },
                  { id: 'color', value: { mode: 'continuous-BlYlRd' } },
                  { id: 'min', value: 0 },
                  { id: 'custom.width', value: 260 },
                ] },
                { title: 'Footprint', unit: 'bytes', expr: byRow(footprint) },
                { title: 'Broken per second', unit: 'binBps', expr: byRow(broken) },
                { title: 'Shared part', unit: 'percentunit', expr: ratio('job, instance, group') },
                { title: 'Used up in', unit: 's', expr: usedUp('job, instance, group'), properties: [
                  { id: 'thresholds', value: lib.steps('red', [[300, 'orange'], [3600, 'text']]) },
                  { id: 'custom.cellOptions', value: { type: 'color-text' } },
                ] },
                { title: 'Coverage', unit: 'percentunit', expr: 'min by (job, instance, group) (%s)' % coverage, properties: [
                  { id: 'thresholds', value: lib.steps('red', [[0.5, 'orange'], [0.9, 'text']]) },
                  { id: 'custom.cellOptions', value: { type: 'color-text' } },
                ] },
                { title: 'Age', unit: 's', expr: 'max by (job, instance, group) (%s)' % age },
              ],
              'Exposure'
            ) + { fieldConfig+: { overrides+: [{
              matcher: { id: 'byName', options: 'Group' },
              properties: [{ id: 'links', value: [groupLink] }, { id: 'custom.width', value: 220 }],
            }] } }),
          ]),
          lib.row('Sharing', 9, [
            lib.wide(12, lib.timeseries(
              'Exposure',
              'Memory that sharing saves, by group. It falls when pages are broken or processes end, and rises ' +
              'with forks.',
              'bytes',
              [lib.range(lib.sum('group', exposure), '{{group}}')],
              'table'
            ) + lib.stacked),
            lib.wide(12, lib.timeseries(
              'Footprint',
              'Anonymous memory of each group, each physical page counted once.',
              'bytes',
              [lib.range(lib.sum('group', footprint), '{{group}}')],
              'table'
            ) + lib.stacked),
            lib.wide(12, lib.timeseries(
              'Broken per second',
              'Shared memory that was copied because a process wrote to it.',
              'binBps',
              [lib.range(lib.sum('group', broken), '{{group}}')],
              'table'
            )),
            lib.wide(12, lib.timeseries(
              'Shared part of the anonymous memory',
              'Share of the memory mapped by the processes of a group that another process maps too. A fall ' +
              'without a deployment means that sharing has collapsed.',
              'percentunit',
              [lib.range(ratio('group'), '{{group}}')],
              'table'
            ) + lib.shares),
          ]),
          lib.row('Forecast', 9, [
            lib.wide(8, lib.timeseries(
              'Exposure is used up in',
              'Exposure divided by the rate of breaks. A group without breaks has no line. A steady fall will ' +
              'reach zero.',
              's',
              [lib.range(usedUp('group'), '{{group}}')]
            ) + lib.logarithmic),
            lib.wide(8, lib.timeseries(
              'Memory is exhausted in',
              "The host's available memory divided by the rate of all its breaks. Needs node_exporter's MemAvailable with " +
              'the same label %s.' % node,
              's',
              [lib.range(memoryGone, '{{%s}}' % node)]
            ) + lib.logarithmic),
            lib.wide(8, lib.bargauge(
              'Largest exposures',
              'The ten groups with the largest exposure on all hosts.',
              'bytes',
              [lib.now('topk(10, %s)' % lib.sum('group', exposure), '{{group}}')]
            )),
          ]),
          lib.row('Completeness', 8, [
            lib.wide(8, lib.timeseries(
              'Coverage',
              'Share of resident pages that were read or verified unchanged within the last interval, on the worst ' +
              'host.',
              'percentunit',
              [lib.range('min by (group) (%s)' % coverage, '{{group}}')]
            ) + lib.shares),
            lib.wide(8, lib.timeseries(
              'Age of the oldest reading',
              'Age of the oldest reading in the values of a group.',
              's',
              [lib.range('max by (group) (%s)' % age, '{{group}}')]
            )),
            lib.wide(8, lib.timeseries(
              'Processes not read',
              'Processes that are not in the sums, by reason: denied, gone during the read, beyond the limit, ' +
              'malformed or too large.',
              'none',
              [lib.range(lib.sum('reason', unread), '{{reason}}')]
            ) + lib.stacked + lib.steplike),
          ]),
        ]
      ),
  },
}

// The library of the dashboards: variables, queries, panels with common options, and rows that place panels. A panel is
// an object as Grafana stores it; a dashboard numbers and places its panels.
{
  local lib = self,

  // Links and bookmarks contain these, so never change them.
  uids:: { overview: 'cow-overview', group: 'cow-group', exporter: 'cow-exporter' },

  datasource:: { type: 'prometheus', uid: '${datasource}' },

  // Selectors. Every query names job and instance, and group if the metric has one.
  targetLabels:: 'job=~"$job",instance=~"$instance"',
  of(metric, labels=''):: '%s{%s%s}' % [metric, lib.targetLabels, if labels == '' then '' else ',' + labels],
  ofGroups(metric, labels=''):: lib.of(metric, 'group=~"$group"' + if labels == '' then '' else ',' + labels),
  ofGroup(metric, labels=''):: lib.of(metric, 'group="$group"' + if labels == '' then '' else ',' + labels),
  // node_exporter's available memory: one value per host, by the label that matches our hosts.
  memoryAvailable(config)::
    'max by (%s) (node_memory_MemAvailable_bytes%s)' %
    [config.nodeLabel, if config.nodeLabel == 'instance' then '{instance=~"$instance"}' else ''],
  // Exposure that can be lost: of groups that have a family now, as the rules filter. After a save, the rate of its breaks
  // lasts for a while but nothing is shared any more. `select`: ofGroups() or ofGroup().
  exposed(select):: '(%s > 0 and %s > 0)' % [select('cow_exposure_bytes'), select('cow_families')],
  // Bytes that these groups break per second.
  breaking(select):: '(%s and on (job, instance, group) %s)' % [lib.rate(select('cow_break_bytes_total')), lib.exposed(select)],
  usedUp(by, select):: '%s / (%s > 0)' % [lib.sum(by, lib.exposed(select)), lib.sum(by, lib.breaking(select))],
  // Coverage of groups that have a family and share something, as far as the mode tells. A group that lived only a moment
  // has ended before it was read.
  coverage(select):: '(%s and %s > 0 unless %s == 0)' %
                     [select('cow_scan_coverage_ratio'), select('cow_families'), select('cow_exposure_bytes')],
  // A quotient has no value if its divisor is 0.
  quotient(a, b):: '%s / (%s > 0)' % [a, b],
  rate(selected):: 'rate(%s[$__rate_interval])' % selected,
  increase(selected):: 'increase(%s[$__rate_interval])' % selected,
  sum(by, expression):: if by == '' then lib.total(expression) else 'sum by (%s) (%s)' % [by, expression],
  total(expression):: 'sum(%s)' % expression,

  // Variables.
  local variable(name, label, more) = { name: name, label: label, skipUrlSync: false, hide: 0 } + more,
  local labelValues(name, label, query, more) = variable(name, label, {
    type: 'query',
    datasource: lib.datasource,
    query: query,
    refresh: 2,
    regex: '',
    sort: 5,
    options: [],
  } + more),
  local several = { multi: true, includeAll: true, allValue: '.+', current: { selected: true, text: ['All'], value: ['$__all'] } },
  local one = { multi: false, includeAll: false },
  variables(groups):: [
    variable('datasource', 'Data source', {
      type: 'datasource',
      query: 'prometheus',
      refresh: 1,
      regex: '',
      multi: false,
      includeAll: false,
      options: [],
    }),
    labelValues('job', 'Job', 'label_values(cow_exporter_build_info, job)', several),
    labelValues('instance', 'Instance', 'label_values(cow_exporter_build_info{job=~"$job"}, instance)', several),
    labelValues('group',
                'Group',
                'label_values(cow_processes{%s}, group)' % lib.targetLabels,
                if groups == 'several' then several else one),
  ],

  // Queries. `legend` is a template such as {{group}}; tables have none.
  range(expression, legend):: {
    datasource: lib.datasource,
    editorMode: 'code',
    expr: expression,
    format: 'time_series',
    instant: false,
    range: true,
    legendFormat: legend,
  },
  now(expression, legend='__auto'):: lib.range(expression, legend) { instant: true, range: false },
  column(expression):: lib.now(expression) { format: 'table' },
  buckets(expression):: lib.range(expression, '{{le}}') { format: 'heatmap' },

  // Colours and values.
  steps(base, later):: {
    mode: 'absolute',
    steps: [{ color: base, value: null }] + [{ color: step[1], value: step[0] } for step in later],
  },
  plain:: lib.steps('text', []),
  shown(values):: [{
    type: 'value',
    options: { [value]: { text: values[value][0], color: values[value][1], index: 0 } for value in std.objectFields(values) },
  }],
  yesNo:: lib.shown({ '0': ['no', 'red'], '1': ['yes', 'green'] }),

  local panel(type, title, description, unit, targets) = {
    type: type,
    title: title,
    description: description,
    datasource: lib.datasource,
    targets: [targets[i] { refId: std.char(65 + i) } for i in std.range(0, std.length(targets) - 1)],
    fieldConfig: { defaults: { unit: unit, thresholds: lib.plain, mappings: [] }, overrides: [] },
  },

  timeseries(title, description, unit, targets, legend='list'):: panel('timeseries', title, description, unit, targets) {
    fieldConfig+: { defaults+: {
      color: { mode: 'palette-classic' },
      min: 0,
      custom: {
        drawStyle: 'line',
        lineInterpolation: 'linear',
        lineWidth: 1,
        fillOpacity: 10,
        gradientMode: 'none',
        showPoints: 'never',
        pointSize: 5,
        spanNulls: false,
        insertNulls: false,
        stacking: { group: 'A', mode: 'none' },
        scaleDistribution: { type: 'linear' },
        axisPlacement: 'auto',
        axisLabel: '',
        thresholdsStyle: { mode: 'off' },
      },
    } },
    options: {
      legend: {
        showLegend: true,
        displayMode: legend,
        placement: if legend == 'table' then 'right' else 'bottom',
        calcs: if legend == 'table' then ['lastNotNull', 'max'] else [],
      } + if legend == 'table' then { sortBy: 'Last *', sortDesc: true } else {},
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  },
  stacked:: { fieldConfig+: { defaults+: { custom+: { stacking+: { mode: 'normal' }, fillOpacity: 40 } } } },
  steplike:: { fieldConfig+: { defaults+: { custom+: { lineInterpolation: 'stepAfter' } } } },
  logarithmic:: { fieldConfig+: { defaults+: { min:: super.min, custom+: { scaleDistribution: { type: 'log', log: 10 } } } } },
  shares:: { fieldConfig+: { defaults+: { max: 1 } } },
  // Draws the series of one legend as a dashed line above the others, unstacked.
  dashed(name, color):: { fieldConfig+: { overrides+: [{
    matcher: { id: 'byName', options: name },
    properties: [
      { id: 'color', value: { mode: 'fixed', fixedColor: color } },
      { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 6] } },
      { id: 'custom.fillOpacity', value: 0 },
      { id: 'custom.stacking', value: { group: 'none', mode: 'none' } },
    ],
  }] } },

  stat(title, description, unit, targets):: panel('stat', title, description, unit, targets) {
    fieldConfig+: { defaults+: { color: { mode: 'thresholds' } } },
    options: {
      colorMode: 'value',
      graphMode: 'area',
      justifyMode: 'auto',
      orientation: 'auto',
      textMode: 'auto',
      wideLayout: true,
      showPercentChange: false,
      percentChangeColorMode: 'standard',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  },
  thresholds(base, later):: { fieldConfig+: { defaults+: { thresholds: lib.steps(base, later) } } },
  mapped(mappings):: { fieldConfig+: { defaults+: { mappings: mappings } }, options+: { graphMode: 'none' } },
  // Shows the names of the series instead of their value, which is always 1.
  names:: { options+: { textMode: 'name', graphMode: 'none' } },
  named:: { options+: { textMode: 'value_and_name', graphMode: 'none' } },
  noValue(text):: { fieldConfig+: { defaults+: { noValue: text } } },

  bargauge(title, description, unit, targets):: panel('bargauge', title, description, unit, targets) {
    fieldConfig+: { defaults+: { color: { mode: 'continuous-BlYlRd' }, min: 0 } },
    options: {
      displayMode: 'basic',
      orientation: 'horizontal',
      namePlacement: 'left',
      valueMode: 'color',
      showUnfilled: true,
      sizing: 'auto',
      minVizHeight: 16,
      minVizWidth: 8,
      maxVizHeight: 300,
      legend: { showLegend: false, displayMode: 'hidden', placement: 'bottom', calcs: [] },
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  },

  heatmap(title, description, unit, targets):: panel('heatmap', title, description, unit, targets) {
    fieldConfig: {
      defaults: { unit: 'none', custom: {
        hideFrom: { legend: false, tooltip: false, viz: false },
        scaleDistribution: { type: 'linear' },
      } },
      overrides: [],
    },
    options: {
      calculate: false,
      cellGap: 1,
      cellValues: { unit: 'none', decimals: 0 },
      color: { mode: 'scheme', scheme: 'Oranges', scale: 'exponential', exponent: 0.5, fill: 'dark-orange', reverse: false, steps: 64 },
      exemplars: { color: 'rgba(255,0,255,0.7)' },
      filterValues: { le: 1e-9 },
      legend: { show: true },
      rowsFrame: { layout: 'auto' },
      showValue: 'never',
      tooltip: { mode: 'single', yHistogram: false, showColorScale: true },
      yAxis: { axisPlacement: 'left', reverse: false, unit: unit },
    },
  },

  // columns: [{ title, expr, unit, ... }]; each row is one combination of `labels`, [[label, title]].
  table(title, description, labels, columns, sortBy):: panel('table', title, description, 'short', [lib.column(c.expr) for c in columns]) {
    local value(i) = 'Value #' + std.char(65 + i),
    local numbered = std.range(0, std.length(columns) - 1),
    fieldConfig+: {
      defaults+: {
        color: { mode: 'thresholds' },
        custom: { align: 'auto', cellOptions: { type: 'auto' }, filterable: true, inspect: false },
      },
      overrides: [
        {
          matcher: { id: 'byName', options: columns[i].title },
          properties: [{ id: 'unit', value: columns[i].unit }] + std.get(columns[i], 'properties', []),
        }
        for i in numbered
      ],
    },
    options: {
      showHeader: true,
      cellHeight: 'sm',
      frameIndex: 0,
      enablePagination: true,
      sortBy: [{ displayName: sortBy, desc: true }],
    },
    transformations: [
      { id: 'merge', options: {} },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true },
          indexByName: { [labels[i][0]]: i for i in std.range(0, std.length(labels) - 1) } +
                       { [value(i)]: std.length(labels) + i for i in numbered },
          renameByName: { [l[0]]: l[1] for l in labels } + { [value(i)]: columns[i].title for i in numbered },
        },
      },
    ],
  },

  // Rows of panels, [{ title, height, panels }], each panel with a `width` of Grafana's 24 columns.
  wide(width, panel):: panel { width:: width },
  row(title, height, panels):: { title: title, height: height, panels: panels },

  local width = 24,
  // Places panels from left to right; begins a new line if the next panel does not fit.
  local placed(panels, height, top, id) =
    std.foldl(
      function(state, p)
        local fits = state.x + p.width <= width;
        local x = if fits then state.x else 0;
        local y = if fits then state.y else state.y + height;
        {
          x: x + p.width,
          y: y,
          id: state.id + 1,
          panels: state.panels + [p { id: state.id, gridPos: { x: x, y: y, w: p.width, h: height } }],
        },
      panels,
      { x: 0, y: top, id: id, panels: [] }
    ),
  local laidOut(rows) =
    std.foldl(
      function(state, row)
        local inside = placed(row.panels, row.height, state.y + 1, state.id + 1);
        {
          y: inside.y + row.height,
          id: inside.id,
          panels: state.panels + [{
            type: 'row',
            id: state.id,
            title: row.title,
            collapsed: false,
            gridPos: { x: 0, y: state.y, w: width, h: 1 },
            panels: [],
          }] + inside.panels,
        },
      rows,
      { y: 0, id: 1, panels: [] }
    ).panels,

  annotation(name, color, expression, title, text, tags):: {
    name: name,
    datasource: lib.datasource,
    enable: true,
    hide: false,
    iconColor: color,
    target: {
      datasource: lib.datasource,
      refId: 'Anno',
      editorMode: 'code',
      expr: expression,
      format: 'time_series',
      instant: false,
      range: true,
      interval: '',
      legendFormat: '',
    },
    titleFormat: title,
    textFormat: text,
    tagKeys: tags,
  },

  // Our firing alerts. `select`: of(), ofGroups() or ofGroup().
  alerts(select):: lib.annotation(
    'Alerts',
    'red',
    select('ALERTS', 'alertname=~"Cow.+",alertstate="firing"'),
    '{{alertname}}',
    '{{group}} on {{instance}}',
    'severity,group'
  ),

  // A link to one of our dashboards, with the time range and all variables except the group: the group dashboard has no
  // "all".
  link(title, uid):: {
    title: title,
    type: 'link',
    url: '/d/%s?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}' % uid,
    icon: 'dashboard',
    tooltip: '',
    tags: [],
    includeVars: false,
    keepTime: true,
    targetBlank: false,
    asDropdown: false,
  },

  dashboard(config, uid, title, description, groups, rows, links, annotations=[]):: {
    uid: uid,
    title: title,
    description: description,
    tags: config.dashboardTags,
    timezone: config.dashboardTimezone,
    refresh: config.dashboardRefresh,
    time: { from: config.dashboardFrom, to: 'now' },
    timepicker: {},
    editable: false,
    graphTooltip: 1,
    fiscalYearStartMonth: 0,
    schemaVersion: 42,
    version: 1,
    links: links,
    annotations: { list: annotations },
    templating: { list: lib.variables(groups) },
    panels: laidOut(rows),
  },
}

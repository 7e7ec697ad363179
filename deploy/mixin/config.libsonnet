// All settings of the rules, alerts and dashboards, with their defaults. The README shows how to override them.
//
// Write durations as Prometheus does (30s, 5m, 1h30m). Windows are part of the recorded names: fastWindow '10s' records
// group:cow_break_bytes:rate10s. A window should hold four scrapes; with fewer, a lost scrape leaves a gap.
local KiB = 1024;
local MiB = 1024 * KiB;

{
  _config+:: {
    // Selectors of the exporter's series and of node_exporter's, which is used for MemAvailable only. Without
    // node_exporter the rules that need it have no series, and their alerts do not fire.
    cowSelector: 'job="cow_exporter"',
    nodeSelector: 'job="node_exporter"',
    // Label that matches the hosts of both. prometheus.yml writes the host's name without a port to it.
    nodeLabel: 'instance',
    // Labels that select the values quoted in alert texts. Add the cluster's label if one Prometheus has several
    // clusters.
    targetLabels: ['job', 'instance'],

    // Runbook links. null: each alert links to /runbooks/ALERT of its own exporter. Otherwise the prefix of your own
    // copies of deploy/runbooks; the alert's name and .md follow.
    runbookUrl: null,
    // How a browser reaches an exporter. The port is for instances without one, as prometheus.yml writes them.
    exporterScheme: 'http',
    exporterPort: 10066,
    // The exporters' configuration file, for the commands that alerts name. explain --group reads it for the names of
    // groups. This is the packages' file; empty: the exporters have none.
    exporterConfigFile: '/etc/cow_exporter/config.yml',

    // Windows of rates: the fast one for alerts on memory that is about to run out, the slow one for the others.
    fastWindow: '1m',
    slowWindow: '5m',
    // Window of group:cow_exposure_consumed:ratio.
    consumedWindow: '15m',
    // Evaluation interval of fast rules; null: global.evaluation_interval.
    interval: null,
    // Evaluation interval of rules that look back for hours.
    slowInterval: '1m',

    // Alerts on exhaustion ignore groups that break less than this, in bytes per second.
    breakingBytesPerSecond: 1 * MiB,

    // CowExplosion, warning: at the present rate the group loses all its sharing within explosionHorizon, the rate
    // exceeds explosionBytesPerSecond, and explosionConsumedRatio of the exposure is already lost. A BGSAVE that copies
    // a twentieth of a Redis does not fire it.
    explosionHorizon: '10m',
    explosionBytesPerSecond: 16 * MiB,
    explosionConsumedRatio: 0.2,
    explosionFor: '1m',
    // CowExplosion, critical: at the present rate the host's available memory, or the rest of the cgroup's limit, is
    // used up within explosionUrgentHorizon; or within explosionCriticalHorizon if explosionCriticalConsumedRatio of
    // the exposure is already lost. A BGSAVE that copies a twentieth does not reach that ratio. The remaining exposure
    // must also exceed explosionHeadroomRatio of the available memory; the ratio is below 1 because other programs need
    // memory too. The alert does not wait: a gigabyte every ten seconds leaves no time. It names the groups of the host
    // that break at least explosionShareRatio of what the fastest group breaks.
    explosionUrgentHorizon: '2m',
    explosionCriticalHorizon: '5m',
    explosionCriticalConsumedRatio: 0.1,
    explosionHeadroomRatio: 0.8,
    explosionShareRatio: 0.1,
    explosionCriticalFor: '0s',

    // CowExposureExceedsAvailable, CowExposureExceedsContainerLimit: the exposure exceeds the available memory, which
    // is used up within exceedsHorizon at the slow rate. Large exposure alone is normal for prefork servers.
    exceedsHorizon: '1h',
    exceedsFor: '5m',

    // CowSharingCollapsed: the shared ratio fell below collapseRatio of its maximum over collapseWindow, and so did the
    // shared bytes, by at least collapseBytes. The maximum ratio was at least collapseFromRatio. The group had children
    // for more than half of the window, and its oldest child is older than collapseChildAge.
    collapseWindow: '12h',
    collapseRatio: 0.5,
    collapseFromRatio: 0.2,
    collapseBytes: 256 * MiB,
    collapseChildAge: '30m',
    collapseFor: '15m',

    // CowForkStuck: the group had processes but no child for at least forkIdleTime of the last forkWindow; this
    // excludes prefork servers, which always have children. The oldest child is older than forkAge, and older than
    // forkAgeFactor times the mean life of children that ended in forkWindow. At least forkBreakBytes were broken
    // within some consumedWindow of the child's life; not only the last one, because a stuck child whose memory is all
    // copied breaks nothing more.
    forkGroups: '',  // regular expression of groups to watch; empty: all
    forkGroupsExcept: '',  // regular expression of groups to ignore, for example servers that start workers on demand
    forkWindow: '1d',
    forkIdleTime: '1h',
    forkAge: '30m',
    forkAgeFactor: 5,
    forkBreakBytes: 16 * MiB,
    forkFor: '5m',

    // CowHugePageSplits: at least hugePageSplits splits within hugePageWindow, and more than hugePageRatio of the
    // group's anonymous huge pages.
    hugePageBytes: 2 * MiB,
    hugePageWindow: '15m',
    hugePageSplits: 64,
    hugePageRatio: 0.1,
    hugePageFor: '5m',

    // Alerts on the exporter itself.
    downFor: '5m',
    collectorFor: '5m',
    // CowCoverageLow: the share of a group's resident pages that is fresh, on average over coverageWindow.
    coverageRatio: 0.5,
    coverageWindow: '15m',
    coverageFor: '15m',
    reloadFor: '5m',

    // Dashboards. Their uids are fixed, so links to them stay valid.
    dashboardTags: ['cow_exporter'],
    dashboardTimezone: 'browser',
    dashboardRefresh: '30s',
    dashboardFrom: 'now-1h',
  },
}

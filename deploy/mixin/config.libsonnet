// Every knob of the rules and alerts, with its default. Override them as the mixin's README shows.
//
// Durations are Prometheus' (30s, 5m, 1h30m). Windows are part of the recorded names: fastWindow '10s' records
// group:cow_break_bytes:rate10s. A window should hold four scrapes, or a lost one leaves a gap.
local KiB = 1024;
local MiB = 1024 * KiB;

{
  _config+:: {
    // Which series are the exporter's, and which are node_exporter's; the latter is asked for MemAvailable only. Without
    // node_exporter what needs it has no series, and the alerts on it are silent.
    cowSelector: 'job="cow_exporter"',
    nodeSelector: 'job="node_exporter"',
    // The label that has the same value on both for one host. prometheus.yml writes the host's name without a port to it.
    nodeLabel: 'instance',
    // What tells one exporter from another, for the values that texts of alerts quote: with more than one cluster in one
    // Prometheus, its label too.
    targetLabels: ['job', 'instance'],

    // Followed by the alert's name and .md. Make it absolute where your runbooks are served.
    runbookUrl: 'https://example.com/cow_exporter/deploy/runbooks/',

    // Rates: the fast one is for what may end in the OOM killer, the slow one for what may wait.
    fastWindow: '1m',
    slowWindow: '5m',
    // Over which the share of the exposure that was consumed is taken.
    consumedWindow: '15m',
    // How often fast rules are evaluated; null: as often as global.evaluation_interval says.
    interval: null,
    // How often rules that look back for hours are.
    slowInterval: '1m',

    // A group is being broken where it breaks more than this, in bytes a second. Below, a server that trickles for days has
    // nothing to do with an alert on memory that is about to go.
    breakingBytesPerSecond: 1 * MiB,

    // CowExplosion, warning: at the present rate nothing is shared any more within explosionHorizon, that rate is no trifle,
    // and a good part is gone already. A BGSAVE that copies a twentieth of a Redis does neither.
    explosionHorizon: '10m',
    explosionBytesPerSecond: 16 * MiB,
    explosionConsumedRatio: 0.2,
    explosionFor: '1m',
    // CowExplosion, critical: at the present rate the host's available memory, or what the cgroup's limit leaves, is used up
    // within explosionUrgentHorizon; or within explosionCriticalHorizon, and explosionCriticalConsumedRatio of what was shared is
    // gone already, which a BGSAVE that copies a twentieth does not reach. And enough is left to be broken for that: more than
    // explosionHeadroomRatio of what is available. Less than 1, for others need memory too. It does not wait: a gigabyte every
    // ten seconds leaves no time. Of the host's groups those are named that break explosionShareRatio or more of what the fastest
    // of them breaks.
    explosionUrgentHorizon: '2m',
    explosionCriticalHorizon: '5m',
    explosionCriticalConsumedRatio: 0.1,
    explosionHeadroomRatio: 0.8,
    explosionShareRatio: 0.1,
    explosionCriticalFor: '0s',

    // CowExposureExceedsAvailable, CowExposureExceedsContainerLimit: more is left to be broken than there is memory for it, and
    // at the slow rate it would be used up within exceedsHorizon. Much exposure alone is what prefork is for, not an alert.
    exceedsHorizon: '1h',
    exceedsFor: '5m',

    // CowSharingCollapsed: the share of shared memory fell below collapseRatio of its maximum over collapseWindow, so did the
    // bytes, by collapseBytes or more, and it was collapseFromRatio at least. Of groups that had children for more than half of
    // that window and whose oldest child is older than collapseChildAge.
    collapseWindow: '12h',
    collapseRatio: 0.5,
    collapseFromRatio: 0.2,
    collapseBytes: 256 * MiB,
    collapseChildAge: '30m',
    collapseFor: '15m',

    // CowForkStuck: of groups that had processes but no child for forkIdleTime or more of the last forkWindow; a prefork server
    // is never without children for long, so it is not among them. The oldest child is older than forkAge, and where children
    // ended in forkWindow than forkAgeFactor times what they lived on average, and forkBreakBytes or more were broken within some
    // consumedWindow of such a child's life: when all is copied nothing is broken any more, and the child is stuck still.
    forkGroups: '',  // a regular expression of the groups that are meant; empty: all
    forkGroupsExcept: '',  // and of those that are not, for example servers that start workers on demand
    forkWindow: '1d',
    forkIdleTime: '1h',
    forkAge: '30m',
    forkAgeFactor: 5,
    forkBreakBytes: 16 * MiB,
    forkFor: '5m',

    // CowHugePageSplits: within hugePageWindow hugePageSplits or more, and more than hugePageRatio of the anonymous huge pages
    // that there were.
    hugePageBytes: 2 * MiB,
    hugePageWindow: '15m',
    hugePageSplits: 64,
    hugePageRatio: 0.1,
    hugePageFor: '5m',

    // The exporter itself.
    downFor: '5m',
    collectorFor: '5m',
    // CowCoverageLow: the share of a group's resident pages that is fresh, on average over coverageWindow.
    coverageRatio: 0.5,
    coverageWindow: '15m',
    coverageFor: '15m',
    reloadFor: '5m',

    // The dashboards. Their uids are fixed, so that links to them hold.
    dashboardTags: ['cow_exporter'],
    dashboardTimezone: 'browser',
    dashboardRefresh: '30s',
    dashboardFrom: 'now-1h',
  },
}

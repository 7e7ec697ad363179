// The usual interface of a mixin: prometheusRules, prometheusAlerts, grafanaDashboards; settings in _config.
(import 'config.libsonnet') +
(import 'rules.libsonnet') +
(import 'alerts.libsonnet') +
(import 'dashboards/dashboards.libsonnet')

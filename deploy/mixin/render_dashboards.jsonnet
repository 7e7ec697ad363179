// The dashboards of deploy/grafana, by file name. `overrides` are settings of config.libsonnet.
function(overrides={})
  local mixin = (import 'mixin.libsonnet') + { _config+:: overrides };
  mixin.grafanaDashboards

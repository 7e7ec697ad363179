// The dashboards, by name. jsonnet itself writes them as JSON: in a string, as the rules have to be, that takes a hundred times as long.
function(overrides={}) ((import 'mixin.libsonnet') + { _config+:: overrides }).grafanaDashboards

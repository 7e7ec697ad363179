// The files of deploy/prometheus/rules. `overrides` are settings of config.libsonnet.
local yaml = import 'yaml.libsonnet';

function(overrides={})
  local mixin = (import 'mixin.libsonnet') + { _config+:: overrides };
  local rules(object, source) =
    '# Rendered by deploy/mixin/render from deploy/mixin/%s and config.libsonnet: change those.\n' % source +
    yaml.ruleGroups(object.groups);
  {
    'cow_exporter_rules.yml': rules(mixin.prometheusRules, 'rules.libsonnet'),
    'cow_exporter_alerts.yml': rules(mixin.prometheusAlerts, 'alerts.libsonnet'),
  }

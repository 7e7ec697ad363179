(import 'overview.libsonnet') +
(import 'group.libsonnet') +
(import 'exporter.libsonnet')

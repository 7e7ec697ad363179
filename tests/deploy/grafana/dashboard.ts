// A dashboard by Grafana's published types, with stricter types where they are open: options and field configuration are
// those of the panel's plugin, queries are Prometheus', the value of an override has the type of its property. The test
// writes each dashboard as a literal of type Dashboard beside this file and compiles it. In a literal, a name that the type
// lacks is an error, and so is a value outside an enumeration.
import type * as grafana from '@grafana/schema';
import type * as schema from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';
import type * as barGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';

// T as JSON: members of enumerations become their values.
type Json<T> =
  unknown extends T ? T
  : T extends string ? `${T}`
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never)
  : T extends boolean | null | undefined ? T
  : T extends Array<infer Item> ? Array<Json<Item>>
  : T extends object ? { [Key in keyof T]: Json<T[Key]> }
  : never;

type Replace<T, Parts> = Omit<T, keyof Parts> & Parts extends infer Both ? { [Key in keyof Both]: Both[Key] } : never;

type DataSource = { type: 'prometheus'; uid: '${datasource}' };

type Query = Replace<
  Omit<Json<prometheus.Dataquery>, '_implementsDataqueryVariant'>,
  { datasource: DataSource; refId: string; legendFormat?: string }
>;

type DataLink = { title: string; url: string; targetBlank?: boolean };
type Defaults<Custom> = Replace<Json<schema.FieldConfig>, { custom?: Partial<Json<Custom>>; links?: DataLink[] }>;

// { id: 'unit', value: string } | { id: 'custom.width', value: number } | …
type Property<Of, Prefix extends string> = {
  [Key in keyof Of & string]-?: { id: `${Prefix}${Key}`; value: NonNullable<Of[Key]> };
}[keyof Of & string];
type Properties<Custom> = Property<Omit<Defaults<Custom>, 'custom'>, ''> | Property<Json<Custom>, 'custom.'>;

type Matcher = { id: 'byName' | 'byRegexp' | 'byFrameRefID'; options: string };
type Field<Custom> = {
  defaults: Defaults<Custom>;
  overrides: Array<{ matcher: Matcher; properties: Array<Properties<Custom>> }>;
};

type Transformation =
  | { id: 'merge'; options: {} }
  | {
      id: 'organize';
      options: {
        excludeByName: Record<string, boolean>;
        indexByName: Record<string, number>;
        renameByName: Record<string, string>;
      };
    };

type Panel<Type extends string, Options, Custom> = Replace<
  Json<schema.Panel>,
  {
    type: Type;
    id: number;
    gridPos: Json<schema.GridPos>;
    title: string;
    description: string;
    datasource: DataSource;
    targets: Query[];
    options: Json<Options>;
    fieldConfig: Field<Custom>;
    transformations?: Transformation[];
  }
>;

// The plugins stat and bargauge have no field configuration of their own.
type None = Record<never, never>;
type AnyPanel =
  | Panel<'bargauge', barGauge.Options, None>
  | Panel<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | Panel<'stat', stat.Options, None>
  | Panel<'table', table.Options, table.FieldConfig>
  | Panel<'timeseries', timeSeries.Options, timeSeries.FieldConfig>
  | Replace<Json<schema.RowPanel>, { panels: [] }>;

type Annotation = Replace<
  Json<schema.AnnotationQuery>,
  { datasource: DataSource; target: Query; titleFormat: string; textFormat: string; tagKeys: string }
>;

type Variable =
  | Replace<Json<schema.VariableModel>, { type: 'datasource'; query: 'prometheus'; datasource?: never }>
  | Replace<Json<schema.VariableModel>, { type: 'query'; query: string; datasource: DataSource }>;

export type Dashboard = Replace<
  Json<grafana.Dashboard>,
  {
    uid: string;
    title: string;
    description: string;
    tags: string[];
    schemaVersion: 42;
    panels: AnyPanel[];
    annotations: { list: Annotation[] };
    templating: { list: Variable[] };
  }
>;

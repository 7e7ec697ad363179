// Writes rule groups as readable YAML: expressions as blocks, descriptions folded, the name of a rule first. Parsing it
// gives the same object. jsonnet's own std.manifestYamlDoc quotes every text and is many times slower.
local order = ['name', 'interval', 'record', 'alert', 'expr', 'for', 'labels', 'summary', 'description'];
local plain = ['name', 'interval', 'record', 'alert', 'for', 'severity'];  // names and durations, which need no quotes
local width = 120;

local fields(object) =
  [field for field in order if std.objectHas(object, field)] +
  [field for field in std.objectFields(object) if !std.member(order, field)];

// Splits a text into lines that YAML's > joins again with single spaces.
local fold(text) =
  local folded = std.foldl(
    function(state, word)
      if state.line == '' then state { line: word }
      else if std.length(state.line) + std.length(word) < width then state { line+: ' ' + word }
      else { lines: state.lines + [state.line], line: word },
    std.split(text, ' '),
    { lines: [], line: '' },
  );
  folded.lines + [folded.line];

local block(lines, indent) = std.join('\n', [indent + line for line in lines]);

// `entry` writes one field with its value, `element` an object of a list, whose first field follows the dash.
local write = {
  entry(field, value, indent)::
    indent + field + ':' + (
      if std.isObject(value) then
        '\n' + std.join('\n', [self.entry(each, value[each], indent + '  ') for each in fields(value)])
      else if std.isArray(value) then '\n' + std.join('\n\n', [self.element(each, indent + '  ') for each in value])
      else if !std.isString(value) then ' ' + std.toString(value)
      else if field == 'expr' then ' |\n' + block([line for line in std.split(value, '\n') if line != ''], indent + '  ')
      else if std.member(plain, field) then ' ' + value
      else if field == 'description' then ' >-\n' + block(fold(value), indent + '  ')
      else ' ' + std.escapeStringJson(value)
    ),
  element(object, indent)::
    local names = fields(object);
    local first = self.entry(names[0], object[names[0]], '');
    std.join('\n', [indent + '- ' + first] + [self.entry(name, object[name], indent + '  ') for name in names[1:]]),
};

{
  ruleGroups(groups):: write.entry('groups', groups, '') + '\n',
}

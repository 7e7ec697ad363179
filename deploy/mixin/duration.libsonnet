// Converts a duration as Prometheus writes it, such as 1h30m, to seconds.
local units = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

{
  seconds(duration)::
    local parsed = std.foldl(
      function(state, c)
        if std.member('0123456789', c) then state { digits+: c }
        else if std.objectHas(units, c) && state.digits != '' then
          { total: state.total + std.parseInt(state.digits) * units[c], digits: '' }
        else error 'not a duration in s, m, h, d, w: ' + duration,
      std.stringChars(duration),
      { total: 0, digits: '' },
    );
    assert parsed.digits == '' && duration != '' : 'a duration without a unit: ' + duration;
    parsed.total,
}

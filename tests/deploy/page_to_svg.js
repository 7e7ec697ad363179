// Draws the current page as SVG from the browser's layout: backgrounds, borders, lines of text, graphs. Then replaces the
// page by the text of the picture.
(function() {
  'use strict';
  var parts = [];

  function round(value) { return String(Math.round(value * 10) / 10); }

  function escape(text) {
    return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
  }

  function hex(color) {
    var numbers = color.match(/[\d.]+/g);
    if (!numbers || (numbers.length === 4 && Number(numbers[3]) === 0)) { return null; }
    return '#' + numbers.slice(0, 3).map(function(n) { return ('0' + Number(n).toString(16)).slice(-2); }).join('');
  }

  function attributes(values) {
    return Object.keys(values).filter(function(name) { return values[name] !== null && values[name] !== undefined; })
      .map(function(name) { return ' ' + name + '="' + values[name] + '"'; }).join('');
  }

  function line(x1, y1, x2, y2, color, opacity) {
    parts.push('<line' + attributes({
      x1: round(x1), y1: round(y1), x2: round(x2), y2: round(y2), stroke: color, 'stroke-opacity': opacity
    }) + '/>');
  }

  // Draws one line of text in a box. Numbers are right-aligned, whatever font the reader has.
  function text(content, box, style, color, anchor) {
    var size = parseFloat(style.fontSize);
    var x = anchor === 'end' ? box.right : anchor === 'middle' ? (box.left + box.right) / 2 : box.left;
    parts.push('<text' + attributes({
      x: round(x), y: round((box.top + box.bottom) / 2 + size * 0.36), 'font-size': size,
      'font-weight': Number(style.fontWeight) >= 600 ? 'bold' : null, fill: color, 'text-anchor': anchor
    }) + '>' + escape(content) + '</text>');
  }

  // Returns the words of a text node by the lines of the browser's layout.
  function textNode(node, style) {
    var lines = [];
    var words = /\S+/g;
    var found;
    while ((found = words.exec(node.data))) {
      var range = document.createRange();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      var box = range.getBoundingClientRect();
      var last = lines[lines.length - 1];
      if (box.width === 0) { continue; }
      if (last && Math.abs(last.top - box.top) < 2) {
        last.words.push(found[0]);
        last.right = box.right;
      } else {
        lines.push({ words: [found[0]], left: box.left, right: box.right, top: box.top, bottom: box.bottom });
      }
    }
    var plot = node.parentNode.closest('.rickshaw_graph');
    lines.forEach(function(one) {
      if (plot && one.right > plot.getBoundingClientRect().right + 2) { return; }
      text(one.words.join(' '), one, style, hex(style.color), style.textAlign === 'right' ? 'end' : null);
    });
  }

  // Returns a path of straight lines without points that lie between their neighbours.
  function simpler(path, matrix) {
    return path.split('M').filter(Boolean).map(function(piece) {
      var closed = /Z$/.test(piece);
      var points = piece.replace(/Z$/, '').split('L').map(function(pair) {
        var numbers = pair.split(',').map(Number);
        return [Math.round((numbers[0] + matrix.e) * 10) / 10, Math.round((numbers[1] + matrix.f) * 10) / 10];
      });
      var kept = [];
      points.forEach(function(point, index) {
        var before = kept[kept.length - 1];
        var after = points[index + 1];
        if (before && after) {
          var off = (point[0] - before[0]) * (after[1] - before[1]) - (point[1] - before[1]) * (after[0] - before[0]);
          var long = Math.hypot(after[0] - before[0], after[1] - before[1]) || 1;
          if (Math.abs(off) / long < 0.25) { return; }
        }
        kept.push(point);
      });
      return 'M' + kept.map(function(point) { return point.join(','); }).join('L') + (closed ? 'Z' : '');
    }).join('');
  }

  function drawing(svg) {
    var frame = svg.getBoundingClientRect();
    svg.querySelectorAll('path, line, text').forEach(function(element) {
      var style = getComputedStyle(element);
      var box = element.getBoundingClientRect();
      var fill = style.fill === 'none' ? null : hex(style.fill);
      var stroke = style.stroke === 'none' ? null : hex(style.stroke);
      if (element.tagName === 'path') {
        if (element.classList.contains('domain')) { return; }
        parts.push('<path' + attributes({
          d: simpler(element.getAttribute('d') || '', element.getScreenCTM()), fill: fill || 'none', stroke: stroke,
          'stroke-width': stroke ? parseFloat(style.strokeWidth) : null
        }) + '/>');
      } else if (element.tagName === 'line') {
        line(box.left, box.top, box.right, box.bottom, '#1f2328', 0.15);
      } else if (element.textContent && box.top >= frame.top - 2 && box.bottom <= frame.bottom + 2 && box.right <= frame.right + 2) {
        text(element.textContent, box, style, fill, null);
      }
    });
  }

  function walk(element) {
    var style = getComputedStyle(element);
    if (style.display === 'none' || style.visibility === 'hidden' || Number(style.opacity) === 0) { return; }
    if (element.matches('script, style, .time, .prom_graph_link, .detail')) { return; }
    if (element instanceof SVGElement) { drawing(element); return; }
    var box = element.getBoundingClientRect();
    var ground = element === document.body ? null : hex(style.backgroundColor);
    var framed = parseFloat(style.borderLeftWidth) > 0 && parseFloat(style.borderTopWidth) > 0;
    if (box.width > 0 && box.height > 0 && (ground || framed)) {
      parts.push('<rect' + attributes({
        x: round(box.left), y: round(box.top), width: round(box.width), height: round(box.height),
        rx: parseFloat(style.borderTopLeftRadius) || null, fill: ground || 'none', stroke: framed ? hex(style.borderLeftColor) : null
      }) + '/>');
    }
    if (!framed && parseFloat(style.borderBottomWidth) > 0) {
      line(box.left, box.bottom, box.right, box.bottom, hex(style.borderBottomColor), null);
    }
    element.childNodes.forEach(function(child) {
      if (child.nodeType === Node.TEXT_NODE) { textNode(child, style); } else if (child.nodeType === Node.ELEMENT_NODE) { walk(child); }
    });
  }

  function draw() {
    walk(document.body);
    var last = [].slice.call(document.querySelectorAll('body > *:not(.time):not(script)')).pop().getBoundingClientRect();
    var height = Math.ceil(last.bottom + 20);
    var title = document.title;
    var picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ' + innerWidth + ' ' + height + '" role="img" ' +
      'font-family="DejaVu Sans, Verdana, sans-serif">\n<title>' + escape(title) + '</title>\n' +
      '<rect width="' + innerWidth + '" height="' + height + '" fill="#ffffff"/>\n' + parts.join('\n') + '\n</svg>\n';
    document.documentElement.innerHTML = '<body><pre id="picture"></pre></body>';
    document.getElementById('picture').textContent = picture;
  }

  window.addEventListener('load', function() {
    var graphs = document.querySelectorAll('.rickshaw_graph').length;
    (function wait() {
      if (document.querySelectorAll('.rickshaw_graph svg .y_grid').length >= graphs) { draw(); } else { setTimeout(wait, 50); }
    })();
  });
})();

#include "exporter/scan/snapshot.h"

#include "exporter/metrics_text/compression.h"

namespace cow::exporter {

Snapshot::Rendered& Snapshot::RenderedFor(TextFormat format) const {
  Rendered& entry = rendered_.at(static_cast<size_t>(format));
  std::call_once(entry.once, [&] { entry.rendered = RenderText(families_, format); });
  return entry;
}

const std::string& Snapshot::GzipText(TextFormat format) const {
  Rendered& entry = RenderedFor(format);
  std::call_once(entry.gzip_once, [&] { entry.gzip = Gzip(entry.rendered.text); });
  return entry.gzip;
}

std::string Snapshot::Text(TextFormat format, const CollectorFilter& filter) const {
  const RenderedText& whole = RenderedFor(format).rendered;
  std::string text;
  size_t begin = 0;
  for (size_t i = 0; i < families_.size(); ++i) {
    if (filter.Wants(families_[i].collector)) text.append(whole.text, begin, whole.ends[i] - begin);
    begin = whole.ends[i];
  }
  text += LastLine(format);
  return text;
}

}  // namespace cow::exporter

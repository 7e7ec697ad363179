#include "exporter/snapshot/snapshot.h"

#include <utility>

#include "exporter/metrics_text/compression.h"

namespace cow::exporter {

const std::string& Snapshot::GzipText(TextFormat format) const {
  Compressed& entry = compressed_.at(static_cast<size_t>(format));
  const std::lock_guard lock(entry.mutex);
  if (!entry.text) entry.text = Gzip(Text(format));
  return *entry.text;
}

std::string Snapshot::Text(TextFormat format, const CollectorFilter& filter) const {
  const std::string_view whole = Text(format);
  std::string text;
  size_t begin = 0;
  for (const SnapshotIndex::Family& family : index_.families) {
    const size_t end = family.ends.at(static_cast<size_t>(format));
    if (filter.Wants(family.collector)) text += whole.substr(begin, end - begin);
    begin = end;
  }
  text += LastLine(format);
  return text;
}

std::shared_ptr<const Snapshot> RenderSnapshot(const std::vector<PreparedFamily>& families, SnapshotIndex index) {
  const auto rendered = std::make_shared<std::array<RenderedText, kTextFormats>>();
  for (size_t format = 0; format < kTextFormats; ++format) {
    rendered->at(format) = RenderText(families, static_cast<TextFormat>(format));
  }
  index.families.reserve(families.size());
  Snapshot::Texts texts;
  for (size_t i = 0; i < families.size(); ++i) {
    index.families.push_back({std::string(families[i].collector), {}});
    for (size_t format = 0; format < kTextFormats; ++format) {
      index.families.back().ends.at(format) = rendered->at(format).ends[i];
    }
  }
  for (size_t format = 0; format < kTextFormats; ++format) texts.at(format) = rendered->at(format).text;
  return std::make_shared<const Snapshot>(std::move(index), texts, rendered);
}

}  // namespace cow::exporter

// The file of a snapshot, which the front reads. Every text of it lies within the file.
#include <exception>
#include <span>

#include "exporter/snapshot/sealed_file.h"
#include "exporter/snapshot/snapshot_file.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using cow::exporter::TextFormat;
  const std::string_view bytes = cow::fuzz::Text(data, size);
  const auto file = cow::exporter::MakeSealedFile({&bytes, 1});
  try {
    const auto snapshot = cow::exporter::ReadSnapshot(file.get());
    cow::exporter::CollectorFilter filter;
    filter.kind = cow::exporter::CollectorFilter::Kind::kExcept;
    for (const TextFormat format : {TextFormat::kPrometheus, TextFormat::kOpenMetrics}) {
      const size_t end = cow::exporter::LastLine(format).size();
      cow::fuzz::Check(snapshot->Text(format).size() <= size, "the text lies within the file");
      cow::fuzz::Check(snapshot->Text(format, filter).size() <= size + end, "the filtered text lies within the file");
    }
  } catch (const std::exception&) {  // no snapshot
  }
  return 0;
}

// Messages between reader and front, in both directions. What is accepted encodes to the bytes that came.
#include "exporter/channel/messages.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

namespace {

template <class Bytes>
bool Equal(const Bytes& bytes, std::string_view text) {
  return std::string_view(reinterpret_cast<const char*>(&bytes), sizeof(bytes)) == text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = cow::fuzz::Text(data, size);
  if (const auto message = cow::exporter::DecodeFrontMessage(bytes)) {
    const bool is_explain = message->type == cow::exporter::FrontMessage::Type::kExplain;
    cow::fuzz::Check(is_explain == (message->query.pid > 0), "only an explanation names a process");
    cow::fuzz::Check(Equal(Encode(*message), bytes), "a message of the front has one form");
  }
  if (const auto message = cow::exporter::DecodeReaderMessage(bytes)) {
    cow::fuzz::Check(Equal(Encode(*message), bytes), "a message of the reader has one form");
  }
  return 0;
}

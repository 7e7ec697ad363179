#include "exporter/metrics_text/compression.h"

#include <zlib.h>

#include <limits>
#include <stdexcept>

namespace cow::exporter {

std::string Gzip(std::string_view text) {
  constexpr int kGzipWindowBits = 15 + 16;  // the largest window, and a gzip header
  constexpr int kMemoryLevel = 8;           // zlib's default
  if (text.size() > std::numeric_limits<uInt>::max()) throw std::runtime_error("too large for gzip");
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindowBits, kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::runtime_error("no memory for gzip");
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  // zlib only reads here, although its type is not const.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));  // NOLINT
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END) throw std::runtime_error("gzip failed");
  out.shrink_to_fit();
  return out;
}

}  // namespace cow::exporter

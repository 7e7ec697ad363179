#include "config/tls_files.h"

#include <cstring>
#include <utility>

#include "config/read_file.h"

namespace cow::config {

TlsFiles::~TlsFiles() {
  for (auto& [path, text] : texts) explicit_bzero(text.data(), text.size());
}

Parsed<TlsFiles> ReadTlsFiles(const TlsConfig& config) {
  TlsFiles files;
  for (const std::string* path : {&config.cert_file, &config.key_file, &config.client_ca_file}) {
    if (path->empty() || files.texts.contains(*path)) continue;
    auto text = ReadTextFile(*path);
    if (!text) return tl::unexpected("tls_server_config: " + *path + ": " + text.error());
    files.texts.emplace(*path, std::move(*text));
  }
  return files;
}

}  // namespace cow::config

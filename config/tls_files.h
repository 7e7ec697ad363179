// Reads the certificates and keys that a web configuration names. Throws only bad_alloc. Any thread.
#pragma once

#include <map>
#include <string>

#include "config/units.h"
#include "config/web_config.h"

namespace cow::config {

// Contents of files. Overwrites them at the end, because one is a private key.
struct TlsFiles {
  TlsFiles() = default;
  ~TlsFiles();
  TlsFiles(TlsFiles&&) = default;
  TlsFiles& operator=(TlsFiles&&) = delete;

  std::map<std::string, std::string> texts;  // by path, as TlsConfig names it
};

// Reads cert_file, key_file and client_ca_file, each at most 1 MiB and a regular file. The error names the file.
Parsed<TlsFiles> ReadTlsFiles(const TlsConfig& config);

}  // namespace cow::config

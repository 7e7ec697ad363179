#include "exporter/http/web_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "config/checker.h"
#include "exporter/snapshot/sealed_file.h"

namespace cow::exporter {
namespace {

using Json = nlohmann::json;

std::array<int64_t, 7> MarkOf(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return {};
  return {static_cast<int64_t>(info.st_dev),
          static_cast<int64_t>(info.st_ino),
          info.st_size,
          info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec,
          info.st_ctim.tv_sec,
          info.st_ctim.tv_nsec};
}

// A certificate may be binary, which is no JSON string.
Json ToBinary(const std::string& text) { return Json::binary(std::vector<uint8_t>(text.begin(), text.end())); }

std::string ToText(const Json& binary) {
  const auto& bytes = binary.get_binary();
  return {bytes.begin(), bytes.end()};
}

std::string Lines(const std::vector<config::ConfigError>& errors) {
  std::string lines;
  for (const config::ConfigError& error : errors) lines.append(lines.empty() ? "" : "\n").append(error.ToString());
  return lines;
}

}  // namespace

config::WebConfig ParseWebFiles(const WebFiles& files) {
  config::WebLoadResult loaded = config::ParseWebConfig(files.text, files.path);
  if (!loaded.errors.empty()) throw WebAccessError(Lines(loaded.errors));
  return std::move(loaded.config);
}

procfs::FileDescriptor SealWebFiles(const WebFiles& files) {
  Json texts = Json::array();
  for (const auto& [path, text] : files.tls.texts) texts.push_back(Json::array({ToBinary(path), ToBinary(text)}));
  const std::vector<uint8_t> bytes =
      Json::to_cbor(Json::array({ToBinary(files.path), ToBinary(files.text), std::move(texts)}));
  const std::string_view whole(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return MakeSealedFile({&whole, 1});
}

WebFiles UnsealWebFiles(int descriptor) {
  const SealedFileMapping mapping(descriptor);
  const Json json = Json::from_cbor(mapping.Bytes());
  WebFiles files;
  files.path = ToText(json.at(0));
  files.text = ToText(json.at(1));
  for (const Json& entry : json.at(2)) files.tls.texts.emplace(ToText(entry.at(0)), ToText(entry.at(1)));
  return files;
}

WebFiles WebFilesReader::Read() {
  watches_all_ = false;
  watched_.clear();
  Watch(path_);
  WebFiles files;
  files.path = path_;
  try {
    std::vector<config::ConfigError> errors;
    auto text = config::ReadConfigText(path_, errors);
    if (!text) throw WebAccessError(Lines(errors));
    files.text = std::move(*text);
    const config::WebConfig config = ParseWebFiles(files);
    if (config.tls) {
      for (const std::string* file : {&config.tls->cert_file, &config.tls->key_file, &config.tls->client_ca_file}) {
        if (!file->empty()) Watch(*file);
      }
      auto texts = config::ReadTlsFiles(*config.tls);
      if (!texts) throw WebAccessError(path_ + ": " + texts.error());
      files.tls.texts.swap(texts->texts);
    }
  } catch (const WebAccessError&) {
    watches_all_ = true;
    throw;
  }
  watches_all_ = true;
  return files;
}

bool WebFilesReader::Changed() const {
  return !watches_all_ || std::any_of(watched_.begin(), watched_.end(),
                                      [](const WatchedFile& file) { return MarkOf(file.path) != file.mark; });
}

void WebFilesReader::Watch(const std::string& path) { watched_.push_back({path, MarkOf(path)}); }

}  // namespace cow::exporter

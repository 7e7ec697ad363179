// The web configuration and the files that it names, as texts. The reader reads them and notices changes; the front,
// which may open no file, parses them.
//
// One thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "collectors/procfs/file_descriptor.h"
#include "config/tls_files.h"
#include "config/web_config.h"

namespace cow::exporter {

// All errors of the web configuration and its files, one per line.
class WebAccessError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct WebFiles {
  std::string path;  // of the web configuration
  std::string text;
  config::TlsFiles tls;
};

// Throws WebAccessError.
config::WebConfig ParseWebFiles(const WebFiles& files);

// A sealed file with the texts, for another process. Throws std::system_error.
procfs::FileDescriptor SealWebFiles(const WebFiles& files);
// Throws std::exception if the file is none of SealWebFiles.
WebFiles UnsealWebFiles(int descriptor);

class WebFilesReader {
 public:
  explicit WebFilesReader(std::string path) : path_(std::move(path)) {}

  // Reads all files. Throws WebAccessError.
  WebFiles Read();
  // Makes Changed return true, because the last Read was not used.
  void ReadAgain() { watches_all_ = false; }
  // True if a file of the last Read was replaced or written since, or if that Read was interrupted.
  [[nodiscard]] bool Changed() const;
  [[nodiscard]] const std::string& Path() const { return path_; }

 private:
  // A file and the state that reveals a replacement or a write.
  struct WatchedFile {
    std::string path;
    std::array<int64_t, 7> mark{};
  };

  // Marks a file before it is read, so that no change is missed.
  void Watch(const std::string& path);

  const std::string path_;
  std::vector<WatchedFile> watched_;
  bool watches_all_ = false;
};

}  // namespace cow::exporter

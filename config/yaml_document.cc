#include "config/yaml_document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <sstream>
#include <system_error>

namespace cow::config {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20U;

// Records the start of a document and ignores everything else.
class DocumentStart final : public YAML::EventHandler {
 public:
  [[nodiscard]] const YAML::Mark& Place() const { return place_; }

  void OnDocumentStart(const YAML::Mark& mark) override { place_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

 private:
  YAML::Mark place_;
};

}  // namespace

Parsed<std::string> ReadSmallFile(const std::string& path) {
  const auto failure = [] { return tl::unexpected(std::generic_category().message(errno)); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return failure();
  std::string text(kMaxFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return failure();
  if (text.size() > kMaxFileBytes) return tl::unexpected(std::string("larger than 1 MiB"));
  return text;
}

// YAML::LoadAll of yaml-cpp 0.7 delivers empty documents without end on some malformed texts.
std::optional<std::pair<int, int>> FindSecondDocument(std::string_view text) {
  std::istringstream in{std::string(text)};
  YAML::Parser parser(in);
  DocumentStart start;
  if (!parser.HandleNextDocument(start) || !parser.HandleNextDocument(start)) return std::nullopt;
  return std::pair(start.Place().line, start.Place().column);
}

}  // namespace cow::config

#include "exporter/front/options.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "exporter/snapshot/sealed_file.h"

namespace cow::exporter {
namespace {

using Json = nlohmann::json;

}  // namespace

procfs::FileDescriptor SealFrontOptions(const FrontOptions& options) {
  const ServerOptions& server = options.server;
  const Json json{{"telemetry_path", server.telemetry_path},
                  {"max_requests", server.max_requests},
                  {"version", server.version},
                  {"collectors", server.collectors},
                  {"enable_api", server.enable_api},
                  {"host_names", server.host_names},
                  {"external_url", server.external_url},
                  {"connections", server.limits.connections},
                  {"per_client", server.limits.per_client},
                  {"lifecycle", options.lifecycle},
                  {"has_web", options.has_web},
                  {"sockets", options.sockets},
                  {"sandbox", options.sandbox},
                  {"log_level", options.log_level},
                  {"log_format", options.log_format}};
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string_view whole = text;
  return MakeSealedFile({&whole, 1});
}

FrontOptions UnsealFrontOptions(int descriptor) {
  const SealedFileMapping mapping(descriptor);
  const Json json = Json::parse(mapping.Bytes());
  FrontOptions options;
  json.at("telemetry_path").get_to(options.server.telemetry_path);
  json.at("max_requests").get_to(options.server.max_requests);
  json.at("version").get_to(options.server.version);
  json.at("collectors").get_to(options.server.collectors);
  json.at("enable_api").get_to(options.server.enable_api);
  json.at("host_names").get_to(options.server.host_names);
  json.at("external_url").get_to(options.server.external_url);
  json.at("connections").get_to(options.server.limits.connections);
  json.at("per_client").get_to(options.server.limits.per_client);
  json.at("lifecycle").get_to(options.lifecycle);
  json.at("has_web").get_to(options.has_web);
  json.at("sockets").get_to(options.sockets);
  json.at("sandbox").get_to(options.sandbox);
  json.at("log_level").get_to(options.log_level);
  json.at("log_format").get_to(options.log_format);
  return options;
}

}  // namespace cow::exporter

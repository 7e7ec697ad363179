#include "exporter/front/front.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "exporter/explain/json.h"
#include "exporter/front/launcher.h"
#include "exporter/front/options.h"
#include "exporter/front/reader_client.h"
#include "exporter/http/server.h"
#include "exporter/sandbox/capabilities.h"

namespace cow::exporter {
namespace {

constexpr std::chrono::seconds kSendTimeout{5};  // the reader limits how many messages it takes

// The answer of the reader to a request of /api/v1.
HttpResponse ToResponse(const std::optional<ReaderClient::Reply>& reply) {
  if (!reply || !reply->text) return ApiResponse(kUnavailable, ErrorJson("the exporter is busy"));
  return ApiResponse(static_cast<unsigned>(reply->number), *reply->text);
}

ServerCallbacks MakeCallbacks(ReaderClient& reader, bool lifecycle) {
  ServerCallbacks callbacks;
  callbacks.scrape = [&reader](auto deadline) { return reader.Scrape(deadline); };
  callbacks.latest = [&reader] { return reader.Latest(); };
  callbacks.config = [&reader] { return reader.Configuration(); };
  callbacks.families = [&reader] { return ToResponse(reader.Ask(FrontMessage::Type::kFamilies)); };
  callbacks.explain = [&reader](const ExplainQuery& query) {
    return ToResponse(reader.Ask(FrontMessage::Type::kExplain, query));
  };
  if (lifecycle) {
    callbacks.reload = [&reader]() -> std::optional<std::string> {
      const auto reply = reader.Ask(FrontMessage::Type::kReload);
      if (!reply || (!reply->text && reply->number != 0)) return "the exporter is busy\n";
      if (!reply->text) return std::nullopt;
      return std::string(**reply->text);
    };
  }
  return callbacks;
}

// Waits for the message that must come next. Throws std::runtime_error.
procfs::FileDescriptor Await(ReaderClient& reader, ReaderMessage::Type type) {
  auto received = reader.Receive();
  if (!received || received->message.type != type) throw std::runtime_error("unexpected message of the reader");
  return std::move(received->file);
}

void Serve(ReaderClient& reader) {
  const FrontOptions options = UnsealFrontOptions(Await(reader, ReaderMessage::Type::kStart).get());
  Log log = Log::ToStderr(options.log_level, options.log_format);
  for (const std::string& missing : ConfineFront(options.sandbox).missing) {
    log.Warn("the front is not fully confined", {{"missing", missing}});
  }
  try {
    std::optional<WebAccess> access;
    if (options.has_web) access.emplace(UnsealWebFiles(Await(reader, ReaderMessage::Type::kWeb).get()), log);
    Await(reader, ReaderMessage::Type::kConfiguration);
    Await(reader, ReaderMessage::Type::kSnapshot);
    Server server(options.server, MakeCallbacks(reader, options.lifecycle), log, access ? &*access : nullptr);
    for (size_t i = 0; i < options.sockets; ++i) server.Listen(ListenSocket(kFrontSockets + static_cast<int>(i)));
    reader.Tell(FrontMessage::Type::kListening);
    while (const auto received = reader.Receive()) {
      if (received->message.type != ReaderMessage::Type::kWeb || !access) continue;
      const bool accepted = access->Update(UnsealWebFiles(received->file.get()));
      reader.Tell(accepted ? FrontMessage::Type::kWebAccepted : FrontMessage::Type::kWebRefused);
    }
    _exit(0);  // the reader has ended; requests may still wait for it
  } catch (const std::exception& error) {
    log.Error("front failed", {{"error", error.what()}});
    _exit(1);
  }
}

}  // namespace

int RunFront() {
  try {
    prctl(PR_SET_NAME, "cow_front");
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // with the launcher
    DropAllCapabilities();
    Channel channel{procfs::FileDescriptor(kFrontChannel)};
    channel.SetTimeout(kSendTimeout);
    ReaderClient reader(std::move(channel));
    Serve(reader);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_exporter front: %s\n", error.what());
    return 1;
  }
}

}  // namespace cow::exporter

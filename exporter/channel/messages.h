// The messages between reader and front. Everything that the front sends has a fixed size and is validated, because
// clients of the exporter may have taken over the front. The reader's messages may carry a descriptor of a sealed file.
//
// Plain values and pure functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace cow::exporter {

// The HTTP status of a reply that could not be made.
inline constexpr unsigned kUnavailable = 503;

// What /api/v1/explain asks for.
struct ExplainQuery {
  pid_t pid = 0;
  bool pages = false;               // include runs of pages
  std::optional<uint64_t> mapping;  // only the mapping at this address
};

// From the front to the reader.
struct FrontMessage {
  enum class Type : uint32_t {
    kListening = 1,  // the front serves; `number`: its maximum of connections
    kAlive,          // answers kPing
    kWebAccepted,    // the latest web configuration is in force
    kWebRefused,     // the previous one stays in force
    kScrape,         // wants a pass; the reply has its number, or 0 if the latest snapshot serves
    kReload,         // the reply has a file with the errors, if any
    kFamilies,       // the reply has a status and a file of JSON
    kExplain,        // the same
  };

  Type type = Type::kAlive;
  uint32_t id = 0;  // of the request; the reply repeats it
  uint64_t number = 0;
  ExplainQuery query;  // of kExplain
};

// From the reader to the front.
struct ReaderMessage {
  enum class Type : uint32_t {
    kStart = 1,      // file: the front's options
    kWeb,            // file: the web configuration and the files that it names
    kConfiguration,  // file: the configuration in force as YAML
    kSnapshot,       // file: a snapshot
    kPassed,         // pass `number` and all before it have ended
    kPing,
    kReply,  // to request `id`: `number` and a file as FrontMessage says
  };

  Type type = Type::kPing;
  uint32_t id = 0;
  uint64_t number = 0;
};

// The bytes of a message, as both processes run the same program on one machine.
struct FrontBytes {
  uint32_t type;
  uint32_t id;
  uint64_t number;
  int64_t pid;
  uint64_t mapping;
  uint32_t pages;        // 0 or 1
  uint32_t has_mapping;  // 0 or 1
};
struct ReaderBytes {
  uint32_t type;
  uint32_t id;
  uint64_t number;
};

FrontBytes Encode(const FrontMessage& message);
ReaderBytes Encode(const ReaderMessage& message);

// Nothing if the bytes are no message: wrong size, unknown type, or a value out of its range.
std::optional<FrontMessage> DecodeFrontMessage(std::string_view bytes);
std::optional<ReaderMessage> DecodeReaderMessage(std::string_view bytes);

}  // namespace cow::exporter

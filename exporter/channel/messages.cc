#include "exporter/channel/messages.h"

#include <cstring>
#include <limits>

namespace cow::exporter {
namespace {

// True if the bytes were copied: their number is that of `Bytes`.
template <class Bytes>
bool Copy(std::string_view from, Bytes& to) {
  if (from.size() != sizeof(to)) return false;
  std::memcpy(&to, from.data(), sizeof(to));
  return true;
}

template <class Type>
bool IsType(uint32_t type, Type last) {
  return type >= 1 && type <= static_cast<uint32_t>(last);
}

}  // namespace

FrontBytes Encode(const FrontMessage& message) {
  return {static_cast<uint32_t>(message.type),
          message.id,
          message.number,
          message.query.pid,
          message.query.mapping.value_or(0),
          message.query.pages ? 1U : 0U,
          message.query.mapping ? 1U : 0U};
}

ReaderBytes Encode(const ReaderMessage& message) {
  return {static_cast<uint32_t>(message.type), message.id, message.number};
}

std::optional<FrontMessage> DecodeFrontMessage(std::string_view bytes) {
  FrontBytes raw{};
  if (!Copy(bytes, raw) || !IsType(raw.type, FrontMessage::Type::kExplain) || raw.pages > 1 || raw.has_mapping > 1 ||
      (raw.has_mapping == 0 && raw.mapping != 0)) {
    return std::nullopt;
  }
  const auto type = static_cast<FrontMessage::Type>(raw.type);
  const bool is_explain = type == FrontMessage::Type::kExplain;
  if (is_explain ? raw.pid < 1 || raw.pid > std::numeric_limits<pid_t>::max() : raw.pid != 0) return std::nullopt;
  if (!is_explain && (raw.pages != 0 || raw.has_mapping != 0)) return std::nullopt;
  FrontMessage message{type, raw.id, raw.number, {static_cast<pid_t>(raw.pid), raw.pages == 1, std::nullopt}};
  if (raw.has_mapping == 1) message.query.mapping = raw.mapping;
  return message;
}

std::optional<ReaderMessage> DecodeReaderMessage(std::string_view bytes) {
  ReaderBytes raw{};
  if (!Copy(bytes, raw) || !IsType(raw.type, ReaderMessage::Type::kReply)) return std::nullopt;
  return ReaderMessage{static_cast<ReaderMessage::Type>(raw.type), raw.id, raw.number};
}

}  // namespace cow::exporter

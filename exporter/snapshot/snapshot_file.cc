#include "exporter/snapshot/snapshot_file.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/snapshot/sealed_file.h"

namespace cow::exporter {
namespace {

using Json = nlohmann::json;

// The beginning of the file: the size of each part that follows.
using Sizes = std::array<uint64_t, 1 + kTextFormats>;

Json ToJson(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

std::optional<double> ToOptional(const Json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

std::vector<uint8_t> Encode(const SnapshotIndex& index) {
  Json families = Json::array();
  for (const SnapshotIndex::Family& family : index.families) {
    families.push_back(Json::array({family.collector, family.ends}));
  }
  Json groups = Json::array();
  for (const GroupSummary& group : index.groups) {
    groups.push_back(Json::array(
        {group.group, ToJson(group.processes), ToJson(group.exposure_bytes), ToJson(group.breaks_per_second)}));
  }
  return Json::to_cbor(Json{{"families", std::move(families)},
                            {"collectors", index.collectors},
                            {"groups", std::move(groups)},
                            {"ready", index.ready},
                            {"on_demand", index.on_demand}});
}

SnapshotIndex Decode(std::string_view bytes) {
  const Json json = Json::from_cbor(bytes);
  SnapshotIndex index;
  for (const Json& family : json.at("families")) {
    index.families.push_back({family.at(0).get<std::string>(), family.at(1).get<std::array<size_t, kTextFormats>>()});
  }
  index.collectors = json.at("collectors").get<std::vector<std::string>>();
  for (const Json& group : json.at("groups")) {
    index.groups.push_back(
        {group.at(0).get<std::string>(), ToOptional(group.at(1)), ToOptional(group.at(2)), ToOptional(group.at(3))});
  }
  index.ready = json.at("ready").get<bool>();
  index.on_demand = json.at("on_demand").get<bool>();
  return index;
}

// Throws std::out_of_range if the bytes end early.
std::string_view Take(std::string_view& bytes, uint64_t size) {
  if (size > bytes.size()) throw std::out_of_range("the snapshot is truncated");
  const std::string_view part = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return part;
}

}  // namespace

procfs::FileDescriptor WriteSnapshot(const Snapshot& snapshot) {
  const std::vector<uint8_t> index = Encode(snapshot.Index());
  Sizes sizes{index.size()};
  std::array<std::string_view, 2 + kTextFormats> parts{
      std::string_view(reinterpret_cast<const char*>(sizes.data()), sizeof(sizes)),
      std::string_view(reinterpret_cast<const char*>(index.data()), index.size())};
  for (size_t format = 0; format < kTextFormats; ++format) {
    parts.at(2 + format) = snapshot.Text(static_cast<TextFormat>(format));
    sizes.at(1 + format) = parts.at(2 + format).size();
  }
  return MakeSealedFile(parts);
}

std::shared_ptr<const Snapshot> ReadSnapshot(int descriptor) {
  auto mapping = std::make_shared<const SealedFileMapping>(descriptor);
  std::string_view rest = mapping->Bytes();
  Sizes sizes{};
  std::memcpy(sizes.data(), Take(rest, sizeof(sizes)).data(), sizeof(sizes));
  SnapshotIndex index = Decode(Take(rest, sizes[0]));
  Snapshot::Texts texts;
  for (size_t format = 0; format < kTextFormats; ++format) texts.at(format) = Take(rest, sizes.at(1 + format));
  for (size_t format = 0; format < kTextFormats; ++format) {
    size_t begin = 0;
    for (const SnapshotIndex::Family& family : index.families) {
      const size_t end = family.ends.at(format);
      if (end < begin || end > texts.at(format).size()) throw std::out_of_range("bad end of a metric family");
      begin = end;
    }
  }
  return std::make_shared<const Snapshot>(std::move(index), texts, std::move(mapping));
}

}  // namespace cow::exporter

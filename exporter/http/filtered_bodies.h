// Compressed responses to scrapes with `collect[]` or `exclude[]`, so that repeated scrapes of one snapshot with the
// same filter compress it once. Keeps at most kMaxBodies of the latest snapshot; a further one replaces the oldest.
//
// Any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "exporter/metrics_text/text_format.h"
#include "exporter/snapshot/collector_filter.h"

namespace cow::exporter {

class FilteredBodies {
 public:
  static constexpr size_t kMaxBodies = 8;

  struct Key {
    TextFormat format;
    CollectorFilter::Kind kind;
    std::set<std::string, std::less<>> names;

    bool operator==(const Key&) const = default;
  };

  // Returns the body of this snapshot and key; makes it if it is not kept. Concurrent calls make it once. Throws what
  // `make` throws; the next call then tries again.
  std::shared_ptr<const std::string> Get(const std::shared_ptr<const void>& snapshot, const Key& key,
                                         const std::function<std::string()>& make);

 private:
  struct Body {
    explicit Body(Key its_key) : key(std::move(its_key)) {}

    const Key key;
    std::mutex mutex;
    std::optional<std::string> text;  // set once
  };

  std::shared_ptr<Body> Find(const std::shared_ptr<const void>& snapshot, const Key& key);

  std::mutex mutex_;
  std::weak_ptr<const void> snapshot_;
  std::list<std::shared_ptr<Body>> bodies_;  // of snapshot_, the oldest first
};

}  // namespace cow::exporter

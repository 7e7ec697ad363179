#include "exporter/http/filtered_bodies.h"

#include <algorithm>

namespace cow::exporter {

std::shared_ptr<const std::string> FilteredBodies::Get(const std::shared_ptr<const void>& snapshot, const Key& key,
                                                       const std::function<std::string()>& make) {
  const std::shared_ptr<Body> body = Find(snapshot, key);
  const std::lock_guard lock(body->mutex);
  if (!body->text) body->text = make();
  return {body, &*body->text};
}

std::shared_ptr<FilteredBodies::Body> FilteredBodies::Find(const std::shared_ptr<const void>& snapshot,
                                                           const Key& key) {
  const std::lock_guard lock(mutex_);
  // A weak pointer keeps its owner's block, so no other snapshot can have the same one.
  if (snapshot_.owner_before(snapshot) || snapshot.owner_before(snapshot_)) {
    bodies_.clear();
    snapshot_ = snapshot;
  }
  const auto found =
      std::find_if(bodies_.begin(), bodies_.end(), [&key](const auto& body) { return body->key == key; });
  if (found != bodies_.end()) return *found;
  if (bodies_.size() >= kMaxBodies) bodies_.pop_front();
  return bodies_.emplace_back(std::make_shared<Body>(key));
}

}  // namespace cow::exporter

#include "collectors/writers/writer_table.h"

#include <iterator>
#include <utility>

namespace cow::writers {

using symbols::CodeLocation;

WriterTable::CodeId WriterTable::NumberOf(const CodeLocation& code) {
  const bool is_file = code.kind == CodeLocation::Kind::kFile;
  const bool is_own = code.kind == CodeLocation::Kind::kAnonymous || code.kind == CodeLocation::Kind::kUnknown;
  const CodeKey key{code.kind, is_file ? code.file->number : 0, is_own ? code.mapped_by : 0,
                    is_file ? code.offset : code.address};
  return code_ids_.try_emplace(key, static_cast<CodeId>(code_ids_.size())).first->second;
}

WriterId WriterTable::NumberOf(const Frames& frames) {
  std::vector<CodeId> ids;
  ids.reserve(frames.size());
  for (const CodeLocation& frame : frames) {
    if (code_ids_.size() >= limit_) return kOverflow;
    ids.push_back(NumberOf(frame));
  }
  const auto known = writer_ids_.find(ids);
  if (known != writer_ids_.end()) return known->second;
  if (writer_ids_.size() >= limit_) return kOverflow;
  writer_ids_.emplace(std::move(ids), next_);
  new_frames_.push_back(frames);
  return next_++;
}

void WriterTable::TakeNew(std::vector<Frames>& frames) {
  frames.insert(frames.end(), std::make_move_iterator(new_frames_.begin()), std::make_move_iterator(new_frames_.end()));
  new_frames_.clear();
}

}  // namespace cow::writers

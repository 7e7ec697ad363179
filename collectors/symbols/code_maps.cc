#include "collectors/symbols/code_maps.h"

#include <algorithm>
#include <string_view>

#include "collectors/procfs/maps.h"

namespace cow::symbols {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

bool IsFile(std::string_view path) { return path.starts_with('/') && !path.starts_with("//"); }

// Names such as [vdso], which the kernel gives to memory that is no file. Not [heap], [stack] and [anon:NAME]: a JIT
// may be there.
bool IsKernelsOwn(std::string_view path) { return path == "[vdso]" || path == "[vsyscall]" || path == "[uprobes]"; }

// Removes [start, end) from mappings that are sorted by address.
void CutOut(std::vector<Mapping>& mappings, uint64_t start, uint64_t end) {
  std::vector<Mapping> kept;
  kept.reserve(mappings.size() + 2);
  for (const Mapping& each : mappings) {
    if (each.end <= start || each.start >= end) {
      kept.push_back(each);
      continue;
    }
    if (each.start < start) {
      kept.push_back(each);
      kept.back().end = start;
    }
    if (each.end > end) {
      kept.push_back(each);
      kept.back().start = end;
      kept.back().file_offset += end - each.start;
    }
  }
  mappings = std::move(kept);
}

}  // namespace

Result<void> CodeMaps::Add(pid_t pid) {
  auto reader = procfs::MapsReader::Open(root_, pid);
  if (!reader) return tl::unexpected(reader.error());
  auto mappings = std::make_shared<std::vector<Mapping>>();
  procfs::Vma vma;
  for (;;) {
    const auto more = reader->Next(vma);
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
    if (!vma.executable) continue;
    if (!HasRoomFor(pid, mappings->size() + 1)) {
      ++refused_.beyond_limits;
      break;
    }
    const NewMapping mapping{pid, vma.start, vma.SizeBytes(), vma.offset_bytes, vma.inode, {}, vma.path};
    mappings->push_back({vma.start, vma.end, vma.offset_bytes, pid, FileOf(mapping)});
  }
  processes_[pid] = std::move(mappings);
  return {};
}

void CodeMaps::Fork(pid_t child, pid_t parent) {
  const auto known = processes_.find(parent);
  if (child == parent || known == processes_.end()) return;
  const Mappings inherited = known->second;
  processes_[child] = inherited;
}

void CodeMaps::Exec(pid_t pid) { processes_[pid] = std::make_shared<std::vector<Mapping>>(); }

void CodeMaps::Map(const NewMapping& mapping) {
  const uint64_t end = mapping.start + mapping.length_bytes;
  if (end <= mapping.start) return;
  Mappings& mappings = processes_[mapping.pid];
  auto changed = mappings == nullptr ? std::make_shared<std::vector<Mapping>>()
                                     : std::make_shared<std::vector<Mapping>>(*mappings);
  CutOut(*changed, mapping.start, end);
  if (HasRoomFor(mapping.pid, changed->size() + 1)) {
    const auto above = std::upper_bound(changed->begin(), changed->end(), mapping.start,
                                        [](uint64_t start, const Mapping& each) { return start < each.start; });
    changed->insert(above, {mapping.start, end, mapping.file_offset, mapping.pid, FileOf(mapping)});
  } else {
    ++refused_.beyond_limits;
  }
  mappings = std::move(changed);
}

void CodeMaps::Exit(pid_t pid) { processes_.erase(pid); }

CodeLocation CodeMaps::Locate(pid_t pid, uint64_t address) const {
  CodeLocation location;
  location.pid = pid;
  location.mapped_by = pid;
  location.address = address;
  const auto process = processes_.find(pid);
  if (process == processes_.end()) return location;
  const std::vector<Mapping>& mappings = *process->second;
  auto above = std::upper_bound(mappings.begin(), mappings.end(), address,
                                [](uint64_t value, const Mapping& each) { return value < each.start; });
  if (above == mappings.begin()) return location;
  const Mapping& mapping = *std::prev(above);
  if (address >= mapping.end) return location;
  location.kind = mapping.file == nullptr ? CodeLocation::Kind::kAnonymous : CodeLocation::Kind::kFile;
  location.mapped_by = mapping.mapped_by;
  location.offset = address - mapping.start + mapping.file_offset;
  location.file = mapping.file;
  return location;
}

CodeMaps::Mappings CodeMaps::MappingsOf(pid_t pid) const {
  const auto process = processes_.find(pid);
  return process == processes_.end() ? nullptr : process->second;
}

std::shared_ptr<const CodeFile> CodeMaps::FileOf(const NewMapping& mapping) {
  if (!IsFile(mapping.path) && !IsKernelsOwn(mapping.path)) return nullptr;
  CodeFile file;
  file.path = mapping.path;
  file.build_id = mapping.build_id;
  file.seen_in = mapping.pid;
  const FileName name{mapping.inode, mapping.path, mapping.build_id};
  if (IsFile(mapping.path)) {
    auto opened = Open(mapping);
    if (opened) {
      const auto known = by_identity_.find(opened->identity);
      if (known != by_identity_.end()) {
        auto same = known->second.lock();
        if (same != nullptr && (mapping.build_id.empty() || same->build_id == mapping.build_id)) {
          by_name_[name] = same;
          return same;
        }
      }
      file.identity = opened->identity;
      if (descriptors_->open < limits_.descriptors) {
        file.descriptor = std::move(opened->descriptor);
      } else {
        ++refused_.beyond_limits;
      }
      auto kept = Keep(std::move(file));
      if (kept->descriptor.valid()) by_identity_[kept->identity] = kept;
      by_name_[name] = kept;
      return kept;
    }
    ++refused_.unreadable_files;
  }
  // The process may have ended, or unmapped the file, before its record came.
  const auto known = by_name_.find(name);
  if (known != by_name_.end()) {
    if (auto same = known->second.lock()) return same;
  }
  auto kept = Keep(std::move(file));
  by_name_[name] = kept;
  return kept;
}

// Compares with what the kernel told of the mapping, because the process may have changed it since.
Result<procfs::RegularFile> CodeMaps::Open(const NewMapping& mapping) const {
  const auto is_mapped = [&mapping](const Result<procfs::RegularFile>& file) {
    return file && (mapping.inode == 0 || file->identity.inode == mapping.inode);
  };
  auto file = procfs::OpenMappedFile(root_, mapping.pid, mapping.start, mapping.start + mapping.length_bytes);
  if (is_mapped(file)) return file;
  std::string_view path = mapping.path;
  if (!path.ends_with(kDeleted)) {
    file = procfs::OpenBelowRoot(root_, mapping.pid, path);
    if (is_mapped(file)) return file;
  }
  // Only the inode tells that the program is this mapping's file.
  if (mapping.inode != 0) {
    file = procfs::OpenProgram(root_, mapping.pid);
    if (is_mapped(file)) return file;
  }
  if (file) return tl::unexpected(Error::Malformed(mapping.path, "another file is there now"));
  return file;
}

std::shared_ptr<const CodeFile> CodeMaps::Keep(CodeFile file) {
  const auto erase_ended = [](auto& files) {
    std::erase_if(files, [](const auto& each) { return each.second.expired(); });
  };
  if (by_name_.size() >= limits_.files || by_identity_.size() >= limits_.files) {
    erase_ended(by_name_);
    erase_ended(by_identity_);
    if (by_name_.size() >= limits_.files) by_name_.clear();
  }
  file.number = next_number_++;
  if (file.descriptor.valid()) ++descriptors_->open;
  const auto release = [descriptors = descriptors_](const CodeFile* ended) {
    if (ended->descriptor.valid()) --descriptors->open;
    delete ended;  // NOLINT(cppcoreguidelines-owning-memory): the deleter of a shared pointer
  };
  return {new CodeFile(std::move(file)), release};
}

bool CodeMaps::HasRoomFor(pid_t pid, size_t mappings) const {
  size_t held = mappings;
  for (const auto& [other, each] : processes_) {
    if (other != pid && each != nullptr) held += each->size() / static_cast<size_t>(std::max(each.use_count(), 1L));
  }
  return held <= limits_.mappings;
}

}  // namespace cow::symbols

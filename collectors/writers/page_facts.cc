#include "collectors/writers/page_facts.h"

#include <span>

#include "collectors/memory/ledger/reading.h"
#include "collectors/procfs/pagemap.h"

namespace cow::writers {

void PageFacts::Update(const memory::WindowReport& report) {
  const size_t pages = geometry_.PagesPerWindow();
  const PageNumber first = report.window.FirstPage(pages);
  for (const memory::Reading& reading : report.readings) {
    const memory::Member* member = report.family->FindSlot(reading.slot);
    if (member == nullptr || !member->access.mappings) continue;
    if (!reading.recalled.empty()) continue;  // not read: nothing of it has changed
    const pid_t pid = member->process->pid;
    Bits bits{WindowBitmap(pages), WindowBitmap(pages)};
    const auto rest = std::span(*member->access.mappings)
                          .subspan(memory::FirstMapping(*member->access.mappings, first.Address(geometry_.page_bytes)));
    const auto take = [&](const memory::Mapping& mapping, uint32_t begin, uint32_t count) {
      for (size_t page = begin; page < begin + count; ++page) {
        const procfs::PageEntry entry = reading.entries[page];
        if (!entry.IsAnonymous()) continue;
        if (entry.Frame() == zero_frame_ && zero_frame_ != Pfn::None()) {
          bits.zero.Set(page);
        } else if (mapping.IsPrivateFile()) {
          bits.written.Set(page);
        }
      }
    };
    memory::VisitMappings(geometry_, rest, report.window, take);
    const bool any = bits.zero.Any() || bits.written.Any();
    if (any || windows_.contains({pid, report.window})) {
      new_windows_.insert_or_assign({pid, report.window}, std::move(bits));
    }
  }
}

void PageFacts::Update(const memory::Family& family) {
  for (const auto& member : family.members) {
    if (member->access.mappings) new_mappings_[member->process->pid] = member->access.mappings;
  }
}

void PageFacts::Commit() {
  for (auto& [place, bits] : new_windows_) {
    if (bits.zero.Any() || bits.written.Any()) {
      windows_.insert_or_assign(place, std::move(bits));
    } else {
      windows_.erase(place);
    }
  }
  new_windows_.clear();
  for (auto& [pid, mappings] : new_mappings_) mappings_.insert_or_assign(pid, std::move(mappings));
  new_mappings_.clear();
}

const PageFacts::Bits* PageFacts::Find(pid_t pid, PageNumber page) const {
  const auto found = windows_.find({pid, page.Window(geometry_.PagesPerWindow())});
  return found == windows_.end() ? nullptr : &found->second;
}

const memory::Mapping* PageFacts::MappingOf(pid_t pid, PageNumber page) const {
  const auto mappings = mappings_.find(pid);
  if (mappings == mappings_.end()) return nullptr;
  return memory::FindMapping(*mappings->second, page.Address(geometry_.page_bytes));
}

bool PageFacts::IsZero(pid_t pid, PageNumber page) const {
  const Bits* bits = Find(pid, page);
  return bits != nullptr && bits->zero.Test(page.InWindow(geometry_.PagesPerWindow()));
}

PageNumber PageFacts::Unit(pid_t pid, PageNumber page) const {
  const memory::Mapping* mapping = MappingOf(pid, page);
  if (mapping == nullptr || !mapping->hugetlb) return page;
  return page.Window(geometry_.PagesPerWindow()).FirstPage(geometry_.PagesPerWindow());
}

Fresh PageFacts::Describe(const Fault& fault) const {
  if (fault.was_zero) return Fresh::kZeroPage;
  const memory::Mapping* mapping = MappingOf(fault.pid, fault.page);
  if (mapping == nullptr) return Fresh::kFirstTouch;
  if (!mapping->IsPrivate()) return Fresh::kSharedFile;
  if (!mapping->IsPrivateFile()) return Fresh::kFirstTouch;
  const Bits* bits = Find(fault.pid, fault.page);
  const bool written = bits != nullptr && bits->written.Test(fault.page.InWindow(geometry_.PagesPerWindow()));
  return written ? Fresh::kFileWritten : Fresh::kFileMapped;
}

}  // namespace cow::writers

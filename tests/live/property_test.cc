// Compares the engine on the kernel's own page tables with a model that knows every physical page of a random fork
// tree.
//
// Members write, read, drop, unmap, map again, fork and end in random order. After each step the model must agree with
// the kernel (page by page, by pagemap), and the engine with the model (breaks by side, pages that became private, and
// all resident pages). Other memory of the workload (stacks, libc's data) changes when members run commands; its frames
// before and after the step are compared.
//
// COW_PROPERTY_SEED repeats the episode of that seed, COW_PROPERTY_STEPS sets the number of steps.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr uint64_t kDefaultSteps = 1000;
constexpr uint64_t kStepsPerEpisode = 100;
constexpr uint64_t kStepsPerRound = 6;
constexpr size_t kCrowd = 8;  // least members that each episode reaches
// Smaller than a huge page, so that none is used; together they span several windows.
constexpr std::array<size_t, 4> kMappingPages{64, 500, 200, 333};
constexpr size_t kTestPages = 64 + 500 + 200 + 333;

std::optional<uint64_t> FromEnvironment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  if (value == nullptr) return std::nullopt;
  return std::strtoull(value, nullptr, 10);
}

// Pages that the kernel moves by itself; any other program on the host may cause that.
struct HostMoves {
  uint64_t migrated = 0;
  uint64_t swapped = 0;
  bool operator==(const HostMoves&) const = default;
};

HostMoves ReadHostMoves() {
  HostMoves moves;
  std::ifstream vmstat("/proc/vmstat");
  std::string name;
  uint64_t value = 0;
  while (vmstat >> name >> value) {
    if (name == "pgmigrate_success" || name == "pgmigrate_fail") moves.migrated += value;
    if (name == "pswpout" || name == "pswpin") moves.swapped += value;
  }
  return moves;
}

std::string MappingName(size_t mapping) { return std::string("m").append(std::to_string(mapping)); }

// The expected growth of the counters.
struct Counts {
  uint64_t parent_breaks = 0;
  uint64_t child_breaks = 0;
  uint64_t unknown_breaks = 0;
  uint64_t unshared_by_exit = 0;
  uint64_t unshared_by_unmap = 0;

  uint64_t Breaks() const { return parent_breaks + child_breaks + unknown_breaks; }
  void AddBreak(int member) { ++(member == testing::Workload::kRoot ? parent_breaks : child_breaks); }
  Counts& operator+=(const Counts& other) {
    parent_breaks += other.parent_breaks;
    child_breaks += other.child_breaks;
    unknown_breaks += other.unknown_breaks;
    unshared_by_exit += other.unshared_by_exit;
    unshared_by_unmap += other.unshared_by_unmap;
    return *this;
  }
};

// The expected gauges, in pages.
struct Sizes {
  uint64_t exposure = 0;
  uint64_t shared = 0;
  uint64_t only_one = 0;  // mapped by one member only
  uint64_t footprint = 0;
  uint64_t zero = 0;

  void AddFrame(uint64_t holders) {
    ++footprint;
    exposure += holders - 1;
    (holders > 1 ? shared : only_one) += holders;
  }
  Sizes& operator+=(const Sizes& other) {
    exposure += other.exposure;
    shared += other.shared;
    only_one += other.only_one;
    footprint += other.footprint;
    zero += other.zero;
    return *this;
  }
};

// ---- The model: the physical page of each member at each page of the test's mappings.

class Model {
 public:
  using Physical = uint64_t;  // a page's number, or one of these
  static constexpr Physical kAbsent = 0;
  static constexpr Physical kUnmapped = 1;
  static constexpr Physical kZero = 2;

  Model() { members_[testing::Workload::kRoot].assign(kTestPages, kAbsent); }

  const std::map<int, std::vector<Physical>>& members() const { return members_; }
  bool IsMapped(int member, size_t page) const { return members_.at(member)[page] != kUnmapped; }
  bool IsShared(int member, size_t page) const {
    const Physical physical = members_.at(member)[page];
    return physical > kZero && holders_.at(physical) > 1;
  }

  void BeginStep() { changes_.clear(); }

  void Write(int member, size_t page) {
    Physical& physical = members_.at(member)[page];
    if (physical > kZero) {
      if (holders_.at(physical) == 1) return;
      Release(physical).copied_by.push_back(member);
    } else if (const auto dropped = dropped_.find({member, page}); dropped != dropped_.end()) {
      // Page tables can't tell this from a copy.
      Change& change = changes_.at(dropped->second);
      change.copied_by.push_back(member);
      --change.dropped;
    }
    physical = next_++;
    holders_[physical] = 1;
  }
  void Read(int member, size_t page) {
    Physical& physical = members_.at(member)[page];
    if (physical != kAbsent) return;
    if (!has_zero_page_) return Write(member, page);
    physical = kZero;
  }
  void Drop(int member, size_t page, Physical left = kAbsent) {
    Physical& physical = members_.at(member)[page];
    if (physical > kZero) {
      ++Release(physical).dropped;
      dropped_[{member, page}] = physical;
    }
    physical = left;
  }
  void Fork(int parent, int child) {
    members_[child] = members_.at(parent);
    for (const Physical physical : members_[child]) {
      if (physical > kZero) ++holders_.at(physical);
    }
  }
  void Exit(int member) {
    for (const Physical physical : members_.at(member)) {
      if (physical > kZero) ++Release(physical).exited;
    }
    members_.erase(member);
  }
  // The kernel does not copy page tables that hold only zero pages.
  void ForgetZero(int member, size_t page) { members_.at(member)[page] = kAbsent; }
  // Call it if the last holder's page got another frame: the kernel may copy instead of reusing it.
  void NoteCopyOfLast(Physical physical) {
    const auto change = changes_.find(physical);
    if (change != changes_.end()) change->second.last_copied = true;
  }

  // Ends the step.
  Counts Count() {
    Counts counts;
    for (const auto& [physical, change] : changes_) {
      if (change.holders_before < 2) continue;
      const uint64_t holders = holders_.at(physical);
      if (change.last_copied) {
        counts.unknown_breaks += change.copied_by.size();
      } else {
        for (const int member : change.copied_by) counts.AddBreak(member);
      }
      if (holders == 1 && change.exited + change.dropped > 0) {
        ++(change.exited > 0 ? counts.unshared_by_exit : counts.unshared_by_unmap);
      }
      if (holders == 0) holders_.erase(physical);
    }
    dropped_.clear();
    changes_.clear();
    return counts;
  }

  Sizes Size() const {
    Sizes sizes;
    for (const auto& [physical, holders] : holders_) {
      if (holders > 0) sizes.AddFrame(holders);
    }
    for (const auto& [member, pages] : members_) {
      sizes.zero += static_cast<uint64_t>(std::count(pages.begin(), pages.end(), kZero));
    }
    return sizes;
  }
  uint64_t HoldersOf(Physical physical) const { return holders_.at(physical); }

 private:
  // The history of a physical page within a step.
  struct Change {
    uint64_t holders_before = 0;
    std::vector<int> copied_by;
    uint64_t exited = 0;
    uint64_t dropped = 0;
    bool last_copied = false;
  };

  Change& Release(Physical physical) {
    uint64_t& holders = holders_.at(physical);
    const auto [change, is_new] = changes_.try_emplace(physical);
    if (is_new) change->second.holders_before = holders;
    --holders;
    return change->second;
  }

  bool has_zero_page_ = WhyNoZeroPage().empty();  // else a page that is only read gets its own frame
  std::map<int, std::vector<Physical>> members_;
  std::unordered_map<Physical, uint64_t> holders_;
  std::map<Physical, Change> changes_;
  std::map<std::pair<int, size_t>, Physical> dropped_;
  Physical next_ = kZero + 1;
};

// ---- The contents of pagemap.

// Frames of a member's anonymous pages by page number; the zero page is only counted.
struct Frames {
  std::unordered_map<uint64_t, uint64_t> of_page;
  uint64_t zero_pages = 0;
  uint64_t away_pages = 0;  // migrating or swapped out
};
using Tree = std::map<int, Frames>;  // by member

struct Holding {
  uint64_t page;
  uint64_t frame;
  int member;
  auto operator<=>(const Holding&) const = default;  // NOLINT(modernize-use-nullptr): mistaken by clang-tidy 14
};

// Calls visit(page, frame, holders) for all pages that two or more members map at one address.
void ForEachShared(const Tree& tree, const std::function<void(uint64_t, uint64_t, const std::vector<int>&)>& visit) {
  std::vector<Holding> all;
  for (const auto& [member, frames] : tree) {
    for (const auto& [page, frame] : frames.of_page) all.push_back({page, frame, member});
  }
  std::sort(all.begin(), all.end());
  std::vector<int> holders;
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin;
    holders.clear();
    for (; end < all.size() && all[end].page == all[begin].page && all[end].frame == all[begin].frame; ++end) {
      holders.push_back(all[end].member);
    }
    if (holders.size() > 1) visit(all[begin].page, all[begin].frame, holders);
    begin = end;
  }
}

uint64_t FrameIn(const Tree& tree, int member, uint64_t page) {
  const auto frames = tree.find(member);
  if (frames == tree.end()) return 0;
  const auto found = frames->second.of_page.find(page);
  return found == frames->second.of_page.end() ? 0 : found->second;
}

// How the holders of one frame are found again.
struct Later {
  std::vector<int> same;
  std::vector<int> changed;
  bool exited = false;
};

Later FindLater(const Tree& after, uint64_t page, uint64_t frame, const std::vector<int>& holders) {
  Later later;
  for (const int member : holders) {
    const uint64_t now = FrameIn(after, member, page);
    if (!after.contains(member)) later.exited = true;
    if (now == frame) later.same.push_back(member);
    if (now != 0 && now != frame) later.changed.push_back(member);
  }
  return later;
}

// What a step did to pages that no member drops, judged by their frames alone.
Counts CountByFrames(const Tree& before, const Tree& after) {
  Counts counts;
  ForEachShared(before, [&](uint64_t page, uint64_t frame, const std::vector<int>& holders) {
    const Later later = FindLater(after, page, frame, holders);
    if (later.changed.empty() && later.same.size() > 1) return;
    const bool moved = later.same.empty() && later.changed.size() > 1 &&
                       FrameIn(after, later.changed[0], page) == FrameIn(after, later.changed[1], page);
    if (!later.same.empty() || later.exited) {
      for (const int member : later.changed) counts.AddBreak(member);
    } else if (!moved && later.changed.size() > 1) {
      counts.unknown_breaks += later.changed.size() - 1;
    }
    if (later.same.size() == 1 && later.exited) ++counts.unshared_by_exit;
  });
  return counts;
}

Sizes SizeOf(const Tree& tree) {
  Sizes sizes;
  std::unordered_map<uint64_t, uint64_t> holders;
  for (const auto& [member, frames] : tree) {
    for (const auto& [page, frame] : frames.of_page) ++holders[frame];
    sizes.zero += frames.zero_pages;
  }
  for (const auto& [frame, count] : holders) sizes.AddFrame(count);
  return sizes;
}

// Bounds of the breaks found after many steps.
struct Bounds {
  Counts certain;         // another holder still has the original
  uint64_t possible = 0;  // pages at which a member's frame differs from its earlier one or a relative's
};

Bounds BoundBreaks(const Tree& before, const Tree& after) {
  Bounds bounds;
  ForEachShared(before, [&](uint64_t page, uint64_t frame, const std::vector<int>& holders) {
    const Later later = FindLater(after, page, frame, holders);
    bounds.possible += later.changed.size();
    if (later.same.empty()) return;
    for (const int member : later.changed) bounds.certain.AddBreak(member);
  });
  for (const auto& [newborn, frames] : after) {
    if (before.contains(newborn)) continue;
    for (const auto& [page, frame] : frames.of_page) {
      for (const auto& [relative, others] : after) {
        const uint64_t other = FrameIn(after, relative, page);
        if (other == 0 || other == frame) continue;
        ++bounds.possible;
        break;
      }
    }
  }
  return bounds;
}

// ---- The test

struct Step {
  std::string text;
  int parent = -1;
  int born = -1;
  bool orphan = false;  // its parent is unknown
  bool touches_only = true;
};

class PropertyTest : public LiveTest {
 protected:
  static uint64_t Steps() { return FromEnvironment("COW_PROPERTY_STEPS").value_or(kDefaultSteps); }

  // Runs episodes until `steps` steps are made. A failure ends the test.
  void RunEpisodes(uint64_t steps, const std::function<void(uint64_t)>& episode) {
    const std::optional<uint64_t> given = FromEnvironment("COW_PROPERTY_SEED");
    const uint64_t first = given.value_or(std::random_device()());
    uint64_t episodes = 0;
    uint64_t noisy = 0;
    for (uint64_t done = 0; done < steps; done += kStepsPerEpisode, ++episodes) {
      SCOPED_TRACE("COW_PROPERTY_SEED=" + std::to_string(first + episodes));
      Start(first + episodes);
      const uint64_t length = std::min(kStepsPerEpisode, steps - done);
      episode(length);
      if (HasFatalFailure()) break;
      if (length >= kStepsPerEpisode / 2) {
        EXPECT_GE(largest_, kCrowd);
      }
      noisy += noise_;
    }
    std::printf("%lu episodes from COW_PROPERTY_SEED=%lu, %lu breaks, %lu of other memory\n", episodes, first, breaks_,
                noisy);
  }

  void Start(uint64_t seed) {
    random_.seed(seed);
    model_ = Model();
    tree_ = StartWorkload(Name());
    pids_ = {{testing::Workload::kRoot, tree_->Pid()}};
    largest_ = 1;
    noise_ = 0;
    if (Below(2) == 0) tree_->Do("subreaper");
    for (size_t mapping = 0; mapping < kMappingPages.size(); ++mapping) {
      tree_->Map(testing::Workload::kRoot, MappingName(mapping), kMappingPages.at(mapping));
      addresses_.at(mapping) = tree_->Address(testing::Workload::kRoot, MappingName(mapping));
    }
    IdleMember(testing::Workload::kRoot);
    for (int i = 0; i < 12; ++i) Touch("write", testing::Workload::kRoot);
    const Tree all = Look();
    VerifyModel(all);
    Pass(Name());  // a group of single processes is exported from its second pass on
    sample_ = Scan();
    before_ = WithoutTestPages(all);
  }

  std::string Name() const { return group() + "p"; }
  uint64_t Below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_); }
  int AnyMember() {
    auto item = pids_.begin();
    std::advance(item, static_cast<std::ptrdiff_t>(Below(pids_.size())));
    return item->first;
  }
  void IdleMember(int id) {
    tree_->Do(std::string("stack ").append(std::to_string(id)).append(" ").append(std::to_string(kIdleStackPages)));
  }
  static size_t FirstPage(size_t mapping) {
    size_t first = 0;
    for (size_t i = 0; i < mapping; ++i) first += kMappingPages.at(i);
    return first;
  }

  // Returns a run of a mapping's pages; `mapped`: only mapped ones. At most `most` pages.
  struct Run {
    size_t mapping = 0;
    size_t first = 0;
    size_t count = 0;
    size_t stride = 1;
    std::string Words() const {
      std::string words = MappingName(mapping);
      words.append(" ").append(std::to_string(first)).append(" ").append(std::to_string(count));
      if (stride != 1) words.append(" ").append(std::to_string(stride));
      return words;
    }
  };
  Run AnyRun(int member, size_t most, size_t most_stride, bool mapped) {
    Run run;
    run.mapping = Below(kMappingPages.size());
    run.first = Below(kMappingPages.at(run.mapping));
    run.stride = 1 + Below(most_stride);
    const size_t limit = 1 + Below(most);
    const size_t base = FirstPage(run.mapping);
    for (size_t page = run.first; page < kMappingPages.at(run.mapping) && run.count < limit; page += run.stride) {
      if (mapped && !model_.IsMapped(member, base + page)) break;
      ++run.count;
    }
    return run;
  }
  template <class Visit>
  void ForEachPage(const Run& run, const Visit& visit) {
    for (size_t i = 0; i < run.count; ++i) visit(FirstPage(run.mapping) + run.first + i * run.stride);
  }

  std::string Send(const std::string& command, int member, const Run& run) {
    std::string line = command;
    line.append(" ").append(std::to_string(member)).append(" ").append(run.Words());
    tree_->Do(line);
    return line.append("; ");
  }

  std::string Touch(const std::string& command, int member) {
    const Run run = AnyRun(member, 60, 3, true);
    if (run.count == 0) return {};
    ForEachPage(run, [&](size_t page) { command == "write" ? model_.Write(member, page) : model_.Read(member, page); });
    return Send(command, member, run);
  }

  std::string DropPages(const std::string& command, int member) {
    const Run run = AnyRun(member, 40, 1, command == "dontneed");
    if (run.count == 0) return {};
    ForEachPage(run, [&](size_t page) {
      if (command == "remapfixed" || model_.IsMapped(member, page)) {
        model_.Drop(member, page, command == "unmap" ? Model::kUnmapped : Model::kAbsent);
      }
    });
    return Send(command, member, run);
  }

  // Drops pages and writes to some of them at once.
  std::string DropAndWrite() {
    const int member = AnyMember();
    const std::string command = Below(2) == 0 ? "dontneed" : "remapfixed";
    Run run = AnyRun(member, 40, 1, true);
    if (run.count == 0) return {};
    ForEachPage(run, [&](size_t page) { model_.Drop(member, page); });
    std::string text = Send(command, member, run);
    run.count = 1 + Below(run.count);
    ForEachPage(run, [&](size_t page) { model_.Write(member, page); });
    return text.append(Send("write", member, run));
  }

  void ForkMember(Step& step) {
    step.touches_only = false;
    step.parent = AnyMember();
    step.orphan = Below(8) == 0;
    const auto child = step.orphan ? tree_->ForkDouble(step.parent) : tree_->Fork(step.parent);
    step.born = child.id;
    pids_[child.id] = child.pid;
    largest_ = std::max(largest_, pids_.size());
    model_.Fork(step.parent, child.id);
    IdleMember(step.parent);
    IdleMember(child.id);
    step.text.append(step.orphan ? "forkdouble " : "fork ").append(std::to_string(step.parent));
    step.text.append(" gives ").append(std::to_string(child.id)).append("; ");
  }

  void EndMember(Step& step) {
    step.touches_only = false;
    const int member = AnyMember();
    if (member == testing::Workload::kRoot) return;
    std::string line = Below(2) == 0 ? "exit " : "kill ";
    tree_->Do(line.append(std::to_string(member)));
    step.text.append(line).append("; ");
    model_.Exit(member);
    pids_.erase(member);
  }

  // Makes one kind of change, in one member or several.
  Step MakeStep(bool with_refaults) {
    Step step;
    const bool crowded = pids_.size() >= kCrowd;
    // Forks prevail until the tree has been large once.
    const uint64_t growing = largest_ < kCrowd ? 50 : 25;
    const uint64_t forks = crowded ? 5 : growing;
    const uint64_t choice = Below(100);
    if (choice < forks) {
      ForkMember(step);
    } else if (choice < forks + (crowded ? 11U : 2U)) {
      EndMember(step);
    } else if (choice < 60) {
      for (uint64_t i = 0, runs = 1 + Below(4); i < runs; ++i) step.text.append(Touch("write", AnyMember()));
    } else if (choice < 68) {
      for (uint64_t i = 0, runs = 1 + Below(3); i < runs; ++i) step.text.append(Touch("read", AnyMember()));
    } else if (with_refaults && choice < 85) {
      step.touches_only = false;
      step.text.append(DropAndWrite());
    } else {
      step.touches_only = false;
      const char* command = choice < 85 ? "dontneed" : choice < 92 ? "unmap" : "remapfixed";
      for (uint64_t i = 0, runs = 1 + Below(3); i < runs; ++i) step.text.append(DropPages(command, AnyMember()));
    }
    return step;
  }

  // Reads all anonymous pages of all members while the kernel moves none of them.
  Tree Look() {
    constexpr int kAttempts = 500;
    for (int attempt = 0;; ++attempt) {
      moves_ = ReadHostMoves();
      Tree tree = LookOnce();
      const bool at_rest =
          std::all_of(tree.begin(), tree.end(), [](const auto& item) { return item.second.away_pages == 0; });
      if (at_rest && moves_ == ReadHostMoves()) return tree;
      if (attempt == kAttempts) throw std::runtime_error("the host swaps or migrates all the time");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  // Scans again if the kernel moved pages meanwhile, because a scan leaves these for the next one.
  Sample Scan() {
    constexpr int kAttempts = 100;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      Sample sample = Pass(Name());
      const HostMoves moves = ReadHostMoves();
      if (moves == moves_) return sample;
      moves_ = moves;
    }
    throw std::runtime_error("the host swaps or migrates all the time");
  }

  Tree LookOnce() const {
    Tree tree;
    for (const auto& [member, pid] : pids_) {
      Frames& frames = tree[member];
      for (const Area& area : ReadAreas(pid)) {
        if (area.permissions.at(3) != 'p') continue;
        const uint64_t first = area.start / PageBytes();
        const std::vector<uint64_t> entries = ReadPagemap(pid, area.start, (area.end - area.start) / PageBytes());
        for (size_t i = 0; i < entries.size(); ++i) {
          const uint64_t frame = AnonymousFrame(entries[i]);
          if (frame == zero_frame_) ++frames.zero_pages;
          if (frame == 0 && IsAway(entries[i])) ++frames.away_pages;
          if (frame != 0) frames.of_page[first + i] = frame;
        }
      }
    }
    return tree;
  }

  uint64_t PageNumber(size_t page) const {
    size_t mapping = 0;
    while (page >= kMappingPages.at(mapping)) page -= kMappingPages.at(mapping++);
    return addresses_.at(mapping) / PageBytes() + page;
  }

  // The other memory of a tree: without the test's pages and the zero page.
  Tree WithoutTestPages(Tree tree) const {
    for (auto& [member, frames] : tree) {
      for (size_t page = 0; page < kTestPages; ++page) {
        const auto found = frames.of_page.find(PageNumber(page));
        if (found == frames.of_page.end()) continue;
        if (found->second == zero_frame_) --frames.zero_pages;
        frames.of_page.erase(found);
      }
      std::erase_if(frames.of_page, [this](const auto& item) { return item.second == zero_frame_; });
    }
    return tree;
  }
  Tree WithoutZeroPages(Tree tree) const {
    for (auto& [member, frames] : tree) {
      std::erase_if(frames.of_page, [this](const auto& item) { return item.second == zero_frame_; });
    }
    return tree;
  }

  // Checks that the kernel did what the model says: equal physical pages have equal frames, different ones have
  // different frames.
  void VerifyModel(const Tree& tree, int born = -1) {
    std::unordered_map<Model::Physical, uint64_t> frame_of;
    std::unordered_map<uint64_t, Model::Physical> physical_of;
    for (const auto& [member, frames] : tree) {
      for (size_t page = 0; page < kTestPages; ++page) {
        const Model::Physical physical = model_.members().at(member)[page];
        const uint64_t frame = FrameIn(tree, member, PageNumber(page));
        SCOPED_TRACE("page " + std::to_string(page) + " of member " + std::to_string(member));
        if (physical == Model::kZero && member == born && frame == 0) {
          model_.ForgetZero(member, page);
        } else if (physical == Model::kZero) {
          ASSERT_EQ(frame, zero_frame_) << "model and kernel differ";
        } else if (physical < Model::kZero) {
          ASSERT_EQ(frame, 0U) << "model and kernel differ";
        } else {
          ASSERT_NE(frame, 0U) << "model and kernel differ";
          ASSERT_EQ(frame_of.try_emplace(physical, frame).first->second, frame) << "model and kernel differ";
          ASSERT_EQ(physical_of.try_emplace(frame, physical).first->second, physical) << "model and kernel differ";
        }
      }
    }
    for (const auto& [physical, frame] : frame_of) {
      const auto known = frame_of_.find(physical);
      if (known != frame_of_.end() && known->second != frame && model_.HoldersOf(physical) == 1) {
        model_.NoteCopyOfLast(physical);
      }
    }
    frame_of_ = std::move(frame_of);
  }

  void ExpectSizes(const Sample& sample, const Sizes& sizes) const {
    ASSERT_EQ(sample.Pages(kExposure), static_cast<double>(sizes.exposure));
    ASSERT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(sizes.shared));
    ASSERT_EQ(sample.Pages("cow_footprint_bytes"), static_cast<double>(sizes.footprint));
    ASSERT_EQ(sample.Pages("cow_resident_bytes{backing=anon,sharing=private}"), static_cast<double>(sizes.only_one));
    ASSERT_EQ(sample.Pages("cow_resident_bytes{backing=anon,sharing=shared}"), static_cast<double>(sizes.shared));
    ASSERT_EQ(sample.At("cow_unmatched_shared_bytes"), 0);
    ASSERT_EQ(sample.At("cow_unresolved_bytes"), 0);
    ASSERT_EQ(sample.At("cow_processes"), static_cast<double>(pids_.size()));
    if (full_passes_) {  // dropping zero pages moves no change signal
      ASSERT_EQ(sample.Pages("cow_zero_page_bytes{size=base}"), static_cast<double>(sizes.zero));
    }
  }

  // Makes one step, then scans.
  void RunStep(bool with_refaults) {
    model_.BeginStep();
    const Step step = MakeStep(with_refaults);
    SCOPED_TRACE(step.text);
    const Tree all = Look();
    ASSERT_NO_FATAL_FAILURE(VerifyModel(all, step.born));
    const Tree others = WithoutTestPages(all);
    uint64_t fresh = 0;  // pages of a new child that its parent lacks
    if (step.born >= 0) {
      before_[step.born] = before_.at(step.parent);
      for (const auto& [page, frame] : others.at(step.born).of_page)
        fresh += before_[step.born].of_page.contains(page) ? 0U : 1U;
    }
    const Counts other = CountByFrames(before_, others);
    before_ = others;
    const Counts own = model_.Count();
    Counts expected = own;
    expected += other;
    breaks_ += own.Breaks();
    noise_ += other.Breaks();

    const Sample after = Scan();
    const Change change(sample_, after);
    if (step.born < 0) {
      ASSERT_EQ(change.Of(kParentBreaks), static_cast<double>(expected.parent_breaks));
      ASSERT_EQ(change.Of(kChildBreaks), static_cast<double>(expected.child_breaks));
      ASSERT_EQ(change.Of(kUnknownBreaks), static_cast<double>(expected.unknown_breaks));
      ASSERT_EQ(change.Of(kUnattributed), 0);
    } else {
      // A page that parent and child both wrote between the fork and the first look has no mark that shows the side,
      // and an orphan's parent may have left its frames. Such breaks may be missing, but no false one is counted.
      const double found = change.BreaksOfAllSides() + change.Pages(kUnattributed);
      ASSERT_LE(change.BreaksOfAllSides(), static_cast<double>(expected.Breaks()));
      ASSERT_LE(found, static_cast<double>(expected.Breaks() + fresh));
      if (!step.orphan) {
        ASSERT_LE(change.Of(kParentBreaks), static_cast<double>(expected.parent_breaks));
        ASSERT_LE(change.Of(kChildBreaks), static_cast<double>(expected.child_breaks));
        ASSERT_GE(found, static_cast<double>(expected.Breaks()));
      }
    }
    ASSERT_GE(change.Pages(kAnonBreaks), static_cast<double>(own.Breaks()));
    ASSERT_LE(change.Pages(kAnonBreaks), static_cast<double>(expected.Breaks()));
    ASSERT_EQ(change.Pages(Unshared("exit")), static_cast<double>(expected.unshared_by_exit));
    ASSERT_EQ(change.Pages(Unshared("unmap")), static_cast<double>(expected.unshared_by_unmap));
    ASSERT_EQ(change.Of(Unshared("unknown")), 0);
    ASSERT_EQ(change.Of(Unshared("collapse")), 0);
    ASSERT_EQ(change.Of("cow_forks_total"), step.born < 0 ? 0 : 1);
    Sizes sizes = model_.Size();
    sizes += SizeOf(others);
    ASSERT_NO_FATAL_FAILURE(ExpectSizes(after, sizes));
    sample_ = after;
  }

  // Makes several steps, then a scan and another one that finds nothing new.
  void RunRound() {
    model_.BeginStep();
    const Tree before = WithoutZeroPages(Look());
    std::string text;
    const bool touches_only = pids_.size() >= kCrowd && Below(2) == 0;
    for (uint64_t i = 0; i < kStepsPerRound; ++i) {
      Step step;
      if (touches_only) {
        step.text = Touch(Below(4) == 0 ? "read" : "write", AnyMember());
      } else {
        step = MakeStep(true);
      }
      text.append(step.text);
      if (step.born >= 0) {
        ASSERT_NO_FATAL_FAILURE(VerifyModel(Look(), step.born));
      }
    }
    SCOPED_TRACE(text);
    const Tree all = Look();
    ASSERT_NO_FATAL_FAILURE(VerifyModel(all));
    const Tree after = WithoutZeroPages(all);
    const Bounds bounds = BoundBreaks(before, after);
    const Counts own = model_.Count();
    breaks_ += own.Breaks();
    Sizes sizes = model_.Size();
    sizes += SizeOf(WithoutTestPages(all));

    const Sample sample = Scan();
    const Change change(sample_, sample);
    ASSERT_NO_FATAL_FAILURE(ExpectSizes(sample, sizes));
    ASSERT_GE(change.Of(kParentBreaks), static_cast<double>(bounds.certain.parent_breaks));
    ASSERT_GE(change.Of(kChildBreaks), static_cast<double>(bounds.certain.child_breaks));
    ASSERT_LE(change.BreaksOfAllSides(), static_cast<double>(bounds.possible));
    if (touches_only) {
      ASSERT_EQ(change.Pages(kAnonBreaks), static_cast<double>(own.Breaks()));
      ASSERT_GE(change.Of(kParentBreaks) + change.Of(kUnknownBreaks), static_cast<double>(own.parent_breaks));
      ASSERT_GE(change.Of(kChildBreaks) + change.Of(kUnknownBreaks), static_cast<double>(own.child_breaks));
    }
    sample_ = Scan();
    const Change quiet(sample, sample_);
    ASSERT_NO_FATAL_FAILURE(ExpectSizes(sample_, sizes));
    ASSERT_EQ(quiet.BreaksOfAllSides(), 0);
    ASSERT_EQ(quiet.Of(kUnattributed), 0);
    for (const char* cause : {"exit", "unmap", "collapse", "unknown"}) ASSERT_EQ(quiet.Of(Unshared(cause)), 0);
  }

  void RunSteps(uint64_t steps, bool with_refaults) {
    for (uint64_t i = 0; i < steps; ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      ASSERT_NO_FATAL_FAILURE(RunStep(with_refaults));
    }
  }

 private:
  std::mt19937_64 random_;
  std::unique_ptr<testing::Workload> tree_;
  std::map<int, pid_t> pids_;  // of living members
  std::array<uintptr_t, kMappingPages.size()> addresses_{};
  Model model_;
  std::unordered_map<Model::Physical, uint64_t> frame_of_;  // at the last look
  Tree before_;                                             // other memory at the last scan
  Sample sample_;                                           // of the last scan
  HostMoves moves_;                                         // before the last look or scan
  uint64_t zero_frame_ = ZeroPageFrame();
  bool full_passes_ = DefaultFullEvery().count() == 0;
  size_t largest_ = 0;
  uint64_t breaks_ = 0;
  uint64_t noise_ = 0;
};

TEST_F(PropertyTest, OneStepBetweenScansIsExact) {
  RunEpisodes(Steps(), [this](uint64_t steps) { RunSteps(steps, false); });
}

// A page dropped and written again between two looks counts as a break: page tables can't tell it from a copy.
TEST_F(PropertyTest, DroppedAndWrittenBetweenScansIsABreak) {
  RunEpisodes(Steps() / 4, [this](uint64_t steps) { RunSteps(steps, true); });
}

TEST_F(PropertyTest, SeveralStepsBetweenScansKeepTheSizesExact) {
  RunEpisodes(Steps(), [this](uint64_t steps) {
    for (uint64_t done = 0; done < steps; done += kStepsPerRound) {
      SCOPED_TRACE("step " + std::to_string(done));
      ASSERT_NO_FATAL_FAILURE(RunRound());
    }
  });
}

}  // namespace
}  // namespace cow::live

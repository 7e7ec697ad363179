// A fake host in a fixture tree: processes with mappings and page tables, the words of their frames, and the other
// kernel files that the exporter reads. Change it through the members, then call Sync. Sync rewrites files in place, so
// open descriptors see the change. Not thread-safe.
//
//   test::FixtureHost host;
//   host.Add(100).MapPages(0x10000000, 4, 1000);        // four pages of anonymous memory at frames 1000 to 1003
//   host.Fork(100, 101).SetPage(0x10000000, 2000);      // a child that broke the first of them
//   host.Sync();
//   procfs::Root root = host.Root();
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/procfs/kpage.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/root.h"
#include "tests/support/fixture_tree.h"

namespace cow::test {

inline constexpr uint64_t kFixturePageBytes = 4096;
inline constexpr uint64_t kFixtureZeroFrame = 3;
inline constexpr uint64_t kFixtureStack = 0x7f000000;

struct FixtureArea {
  uint64_t start = 0;
  uint64_t end = 0;
  std::string permissions = "rw-p";
  std::string path;
  std::string device = "00:00";
  uint64_t inode = 0;
};

struct FixtureProcess {
  pid_t pid = 0;
  pid_t ppid = 1;
  uint64_t start_ticks = 100;
  std::string comm = "app";
  std::string exe = "/usr/bin/app";
  std::string command_line = "/usr/bin/app";  // arguments end in NUL, except the last one here
  uint32_t uid = 0;
  std::string cgroup = "0::/\n";
  std::string personality = "00000000\n";
  char state = 'S';
  pid_t thread = 0;  // a thread that lives on after the leader has ended; its files show the memory
  uint32_t flags = 0x400000;
  uint64_t minor_faults = 0;
  uint64_t children_faults = 0;   // of children that it has waited for
  bool ignores_children = false;  // ignores SIGCHLD
  uint64_t ksm_pages = 0;
  uint64_t layout = 0x400000;  // start of the code; 0: hidden by permission
  std::vector<uint64_t> auxv;  // pairs of type and value
  uint64_t stack = 0;          // start of the stack; 0: derived from the layout
  std::map<uint64_t, FixtureArea> areas;
  std::map<uint64_t, uint64_t> entries;  // by page; the host adds bit 56 of anonymous pages

  FixtureArea& MapArea(uint64_t start, uint64_t pages, std::string path = {}, std::string permissions = "rw-p") {
    FixtureArea area{start, start + pages * kFixturePageBytes, std::move(permissions), std::move(path)};
    return areas[start] = area;
  }
  void SetEntry(uint64_t address, uint64_t entry) { entries[address / kFixturePageBytes] = entry; }
  void SetPage(uint64_t address, uint64_t frame) { SetEntry(address, procfs::kPagemapPresent | frame); }
  void SetFilePage(uint64_t address, uint64_t frame, bool once) {
    SetEntry(address, procfs::kPagemapPresent | procfs::kPagemapFile | frame | (once ? procfs::kPagemapMappedOnce : 0));
  }
  void SwapOut(uint64_t address, uint64_t offset) { SetEntry(address, procfs::kPagemapSwapped | offset << 5 | 1); }
  void Drop(uint64_t address) { entries.erase(address / kFixturePageBytes); }
  // Maps an area whose pages are all present, at consecutive frames.
  FixtureArea& MapPages(uint64_t start, uint64_t pages, uint64_t frame, std::string path = {}) {
    for (uint64_t i = 0; i < pages; ++i) SetPage(start + i * kFixturePageBytes, frame + i);
    return MapArea(start, pages, std::move(path));
  }

  static bool IsAnon(uint64_t entry) {
    return (entry & (procfs::kPagemapPresent | procfs::kPagemapFile)) == procfs::kPagemapPresent &&
           (entry & procfs::kPagemapFrameMask) != kFixtureZeroFrame;
  }
};

class FixtureHost {
 public:
  FixtureHost() {
    tree_.WriteFile("proc/stat", "cpu  0\nbtime 1700000000\nprocesses 1000\n");
    tree_.WriteFile("proc/sys/kernel/randomize_va_space", "2\n");
    tree_.WriteFile("proc/self/status", "Name:\tself\nTgid:\t1\nPPid:\t0\nUid:\t0\t0\t0\t0\n");
    tree_.WriteFile("proc/self/mountinfo", Mountinfo());
    tree_.WriteFile("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
    tree_.SetSize("proc/kpageflags", 8);
    tree_.SetSize("proc/kpagecount", 8);
  }

  procfs::Root Root() const { return procfs::Root(tree_.Path("proc"), tree_.Path("sys")); }
  const FixtureTree& tree() const { return tree_; }

  // Writes files that show every right in the initial namespaces.
  void GrantAllRights() const {
    tree_.WriteFile("proc/self/status",
                    "Name:\tself\nTgid:\t1\nPPid:\t0\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n");
    tree_.Symlink("proc/self/ns/pid", "pid:[4026531836]");
    tree_.Symlink("proc/self/ns/user", "user:[4026531837]");
  }

  FixtureProcess& Add(pid_t pid, pid_t ppid = 1, uint64_t start_ticks = 100) {
    FixtureProcess& process = processes_[pid];
    process = FixtureProcess();
    process.pid = pid;
    process.ppid = ppid;
    process.start_ticks = start_ticks;
    return process;
  }
  FixtureProcess& At(pid_t pid) { return processes_.at(pid); }
  // Adds a copy with the parent's memory. Clears the marks of exclusive pages.
  FixtureProcess& Fork(pid_t parent, pid_t pid, uint64_t start_ticks = 200) {
    FixtureProcess child = At(parent);
    child.pid = pid;
    child.ppid = parent;
    child.start_ticks = start_ticks;
    child.minor_faults = 0;
    child.children_faults = 0;
    for (const auto& [page, entry] : child.entries) {
      if (FixtureProcess::IsAnon(entry)) forked_frames.insert(entry & procfs::kPagemapFrameMask);
    }
    return processes_[pid] = child;
  }
  void Exit(pid_t pid) {
    for (auto& [other, process] : processes_) {
      if (process.ppid == pid) process.ppid = 1;
    }
    EndAddressSpace(pid);
    // Descriptors of these files become dead.
    for (const char* file : {"stat", "statm", "status"}) tree_.SetSize(Path(pid, file), 0);
    processes_.erase(pid);
    tree_.Remove(Path(pid, ""));
  }
  // Executes another program: drops the memory and changes the layout.
  FixtureProcess& Exec(pid_t pid, uint64_t layout) {
    EndAddressSpace(pid);
    FixtureProcess& process = At(pid);
    process.areas.clear();
    process.entries.clear();
    process.layout = layout;
    process.stack = 0;
    return process;
  }
  // Ends the leader's thread; this other thread lives on in the same address space.
  void EndLeader(pid_t pid, pid_t thread) {
    At(pid).thread = thread;
    tree_.MakeDirectory(Path(pid, "task/" + std::to_string(pid)));
    tree_.MakeDirectory(Path(pid, "task/" + std::to_string(thread)));
    std::filesystem::rename(tree_.Path(Path(pid, "pagemap")),
                            tree_.Path(Path(pid, "task/" + std::to_string(thread) + "/pagemap")));
  }
  // Descriptors of its page table read 0 bytes from now on.
  void EndAddressSpace(pid_t pid) const {
    tree_.SetSize(Path(pid, "pagemap"), 0);
    tree_.Remove(Path(pid, "pagemap"));
  }

  std::set<uint64_t> ksm_frames;
  bool all_have_ksm_flag = false;                 // like a kernel with a wrong flag
  std::set<uint64_t> large_folio_frames;          // pages of large folios
  std::set<uint64_t> forked_frames;               // without the AnonExclusive mark
  std::map<uint64_t, uint64_t> unseen_mappers;    // by frame: mappings by processes that are not visible
  std::map<pid_t, std::string> maps_of_its_own;   // text instead of `areas`
  std::map<pid_t, std::string> stats_of_its_own;  // text instead of the fields

  void Sync() const {
    std::map<uint64_t, uint64_t> counts = unseen_mappers;
    for (const auto& [pid, process] : processes_) {
      for (const auto& [page, entry] : process.entries) {
        if (FixtureProcess::IsAnon(entry)) ++counts[entry & procfs::kPagemapFrameMask];
      }
    }
    tree_.WriteFile("proc/kpageflags", "");
    tree_.WriteFile("proc/kpagecount", "");
    std::map<uint64_t, uint64_t> flags_of{{kFixtureZeroFrame, procfs::kFrameZeroPage}};
    for (const auto& [frame, count] : counts) {
      uint64_t flags = procfs::kFrameAnon;
      if (all_have_ksm_flag || ksm_frames.contains(frame)) flags |= procfs::kFrameKsm;
      if (large_folio_frames.contains(frame)) flags |= procfs::kFrameCompoundTail;
      if (!forked_frames.contains(frame)) flags |= procfs::kFrameAnonExclusive;
      flags_of[frame] = flags;
    }
    WriteRuns("proc/kpageflags", flags_of);
    WriteRuns("proc/kpagecount", counts);
    uint64_t anon = 0;
    for (const auto& [frame, count] : counts) anon += count != 0 ? 1 : 0;
    tree_.WriteFile("proc/meminfo",
                    "MemTotal:       8000000 kB\nAnonPages:      " + std::to_string(anon * 4) + " kB\n");
    for (const auto& [pid, process] : processes_) WriteProcess(process, counts);
  }

  static std::string StatLine(const FixtureProcess& process) {
    const bool known = process.layout != 0;
    const uint64_t code = known ? process.layout : 1;
    std::string line = std::to_string(process.pid) + " (" + process.comm + ") " + process.state;
    const auto add = [&line](uint64_t value) { line.append(" ").append(std::to_string(value)); };
    add(static_cast<uint64_t>(process.ppid));
    for (int i = 5; i < 9; ++i) add(0);
    add(process.flags);
    add(process.minor_faults);
    add(process.children_faults);
    for (int i = 12; i < 20; ++i) add(0);
    add(process.thread == 0 ? 1 : 2);
    add(0);
    add(process.start_ticks);
    add(process.state == 'Z' ? 0 : uint64_t{1} << 30);
    add(100);
    add(uint64_t{1} << 40);
    add(code);
    add(known ? code + 0x1000 : 1);
    const uint64_t stack = process.stack != 0 ? process.stack : kFixtureStack - process.layout;
    add(known ? stack : 0);
    for (int i = 29; i < 45; ++i) add(0);
    add(known ? code + 0x2000 : 0);
    add(known ? code + 0x3000 : 0);
    add(known ? code + 0x4000 : 0);
    for (int i = 48; i < 53; ++i) add(0);
    return line + "\n";
  }

 private:
  static std::string Path(pid_t pid, std::string_view file) {
    return "proc/" + std::to_string(pid) + "/" + std::string(file);
  }

  std::string Mountinfo() const {
    return "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:22 / " + tree_.Path("proc") +
           " rw - proc proc rw\n3 1 0:30 / /dev/shm rw - tmpfs tmpfs rw\n4 1 0:31 / /huge rw - hugetlbfs none rw\n";
  }

  // Writes words by index; neighbours in one write.
  void WriteRuns(std::string_view file, const std::map<uint64_t, uint64_t>& words) const {
    std::vector<uint64_t> run;
    for (auto item = words.begin(); item != words.end();) {
      const uint64_t first = item->first;
      run.clear();
      for (; item != words.end() && item->first == first + run.size(); ++item) run.push_back(item->second);
      tree_.WriteWords(file, first, run);
    }
  }

  static std::string Maps(const FixtureProcess& process) {
    std::string text;
    for (const auto& [start, area] : process.areas) {
      std::array<char, 64> range{};
      std::snprintf(range.data(), range.size(), "%llx-%llx ", static_cast<unsigned long long>(area.start),
                    static_cast<unsigned long long>(area.end));
      text.append(range.data()).append(area.permissions).append(" 00000000 ").append(area.device);
      text.append(" ").append(std::to_string(area.inode)).append("    ").append(area.path).append("\n");
    }
    return text;
  }

  void WriteProcess(const FixtureProcess& process, const std::map<uint64_t, uint64_t>& counts) const {
    const std::string home = process.thread == 0 ? "" : "task/" + std::to_string(process.thread) + "/";
    const auto file_of_memory = [&](const char* file) { return Path(process.pid, home + file); };
    uint64_t anon = 0;
    uint64_t file = 0;
    uint64_t swap = 0;
    tree_.SetSize(file_of_memory("pagemap"), 0);
    tree_.SetSize(file_of_memory("pagemap"), (kFixtureStack / kFixturePageBytes + 1) * sizeof(uint64_t));
    std::map<uint64_t, uint64_t> words;
    for (const auto& [page, entry] : process.entries) {
      const bool is_anon = FixtureProcess::IsAnon(entry);
      const bool once = is_anon && counts.at(entry & procfs::kPagemapFrameMask) == 1;
      words[page] = entry | (once ? procfs::kPagemapMappedOnce : 0);
      anon += is_anon ? 1 : 0;
      file += (entry & procfs::kPagemapPresent) != 0 && (entry & procfs::kPagemapFile) != 0 ? 1 : 0;
      swap += (entry & procfs::kPagemapPresent) == 0 && (entry & procfs::kPagemapSwapped) != 0 ? 1 : 0;
    }
    WriteRuns(file_of_memory("pagemap"), words);
    const auto own_maps = maps_of_its_own.find(process.pid);
    tree_.WriteFile(file_of_memory("maps"), own_maps == maps_of_its_own.end() ? Maps(process) : own_maps->second);
    const auto own_stat = stats_of_its_own.find(process.pid);
    tree_.WriteFile(file_of_memory("stat"), own_stat == stats_of_its_own.end() ? StatLine(process) : own_stat->second);
    if (process.thread != 0) {
      FixtureProcess leader = process;
      leader.state = 'Z';
      leader.layout = 0;
      tree_.WriteFile(Path(process.pid, "stat"), StatLine(leader));
      tree_.WriteFile(Path(process.pid, "maps"), "");
    }
    const std::string pid = std::to_string(process.pid);
    std::string status = "Name:\t" + process.comm + "\nTgid:\t" + pid + "\nPid:\t" + pid;
    status += "\nPPid:\t" + std::to_string(process.ppid) + "\n";
    status += "Uid:";
    for (int i = 0; i < 4; ++i) status.append("\t").append(std::to_string(process.uid));
    status += "\n";
    status.append("SigIgn:\t00000000000").append(process.ignores_children ? "1" : "0").append("0000\n");
    const auto kilobytes = [&status](const char* field, uint64_t pages) {
      status.append(field).append(":\t").append(std::to_string(pages * 4)).append(" kB\n");
    };
    kilobytes("RssAnon", anon);
    kilobytes("RssFile", file);
    kilobytes("RssShmem", 0);
    kilobytes("VmSwap", swap);
    tree_.WriteFile(file_of_memory("status"), status);
    const std::string sizes = std::to_string(anon + file) + " " + std::to_string(file);
    tree_.WriteFile(file_of_memory("statm"), "1000 " + sizes + " 1 0 1 0\n");
    tree_.WriteFile(Path(process.pid, "cgroup"), process.cgroup);
    tree_.WriteFile(file_of_memory("cmdline"), process.command_line + '\0');
    tree_.WriteFile(file_of_memory("personality"), process.personality);
    tree_.WriteFile(file_of_memory("auxv"), "");
    if (!process.auxv.empty()) tree_.WriteWords(file_of_memory("auxv"), 0, process.auxv);
    tree_.WriteFile(file_of_memory("ksm_merging_pages"), std::to_string(process.ksm_pages) + "\n");
    tree_.WriteFile(file_of_memory("mountinfo"), Mountinfo());
    tree_.Symlink(file_of_memory("exe"), process.exe);
  }

  FixtureTree tree_;
  std::map<pid_t, FixtureProcess> processes_;
};

}  // namespace cow::test

#include "tests/live/host.h"
#include "tests/support/privileges.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace cow::live {
namespace {

std::string ErrorText(const std::string& what) { return what + ": " + std::system_category().message(errno); }

// The signature that swapon expects (union swap_header in include/linux/swap.h).
bool WriteSwapHeader(int file, uint64_t bytes) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::string page(page_bytes, '\0');
  const uint32_t version = 1;
  const auto last_page = static_cast<uint32_t>(bytes / page_bytes - 1);
  std::memcpy(page.data() + 1024, &version, sizeof(version));
  std::memcpy(page.data() + 1028, &last_page, sizeof(last_page));
  page.replace(page_bytes - 10, 10, "SWAPSPACE2");
  return pwrite(file, page.data(), page.size(), 0) == static_cast<ssize_t>(page.size());
}

}  // namespace

std::string ReadHostFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  if (!file) throw std::runtime_error("can't read " + path);
  return content.str();
}

bool WriteHostFile(const std::string& path, const std::string& value) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written = file >= 0 && write(file, value.data(), value.size()) == static_cast<ssize_t>(value.size());
  close(file);
  return written;
}

uint64_t HostCounter(const std::string& path, const std::string& name) {
  std::istringstream lines(ReadHostFile(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    uint64_t number = 0;
    if (words >> word >> number && word == name) return number;
  }
  return 0;
}

HostSetting::HostSetting(std::string path, const std::string& value)
    : path_(std::move(path)), before_(ReadHostFile(path_)) {
  // A file with several choices shows the current one in brackets.
  const size_t begin = before_.find('[');
  if (begin != std::string::npos) before_ = before_.substr(begin + 1, before_.find(']') - begin - 1);
  Set(value);
}

HostSetting::~HostSetting() { WriteHostFile(path_, before_); }

void HostSetting::Set(const std::string& value) const {
  if (!WriteHostFile(path_, value)) throw std::runtime_error(ErrorText(path_));
}

uint64_t HostSetting::Number() const { return std::stoull(ReadHostFile(path_)); }

HurriedThread::HurriedThread(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "comm");
    std::string comm;
    if (std::getline(file, comm) && comm == name) pid_ = std::stoi(entry.path().filename());
  }
  if (pid_ == 0) return;
  before_ = getpriority(PRIO_PROCESS, static_cast<id_t>(pid_));
  setpriority(PRIO_PROCESS, static_cast<id_t>(pid_), -10);
}

HurriedThread::~HurriedThread() {
  if (pid_ != 0) setpriority(PRIO_PROCESS, static_cast<id_t>(pid_), before_);
}

SwapArea::SwapArea(std::string path, uint64_t bytes) : path_(std::move(path)) {
  const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  errno = posix_fallocate(file, 0, static_cast<off_t>(bytes));
  if (errno != 0 || !WriteSwapHeader(file, bytes) || fsync(file) != 0 || swapon(path_.c_str(), 0) != 0) {
    why_not_ = ErrorText("no swap area at " + path_);
    unlink(path_.c_str());
  }
  close(file);
}

SwapArea::~SwapArea() {
  if (!why_not_.empty()) return;
  swapoff(path_.c_str());
  unlink(path_.c_str());
}

ReclaimGroup::ReclaimGroup(const std::string& name) {
  for (const char* place : {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"}) {
    parent_ = place;
    path_ = parent_ + "/" + name;
    if (mkdir(path_.c_str(), 0755) != 0) continue;
    version_2_ = std::filesystem::exists(path_ + "/memory.reclaim");
    if (version_2_ || std::filesystem::exists(path_ + "/memory.force_empty")) return;
    rmdir(path_.c_str());
  }
  why_not_ = test::MissingPrivilege(test::kMemoryCgroup);
}

ReclaimGroup::~ReclaimGroup() {
  if (!why_not_.empty()) return;
  std::istringstream pids(ReadHostFile(path_ + "/cgroup.procs"));
  for (std::string pid; pids >> pid;) WriteHostFile(parent_ + "/cgroup.procs", pid);
  rmdir(path_.c_str());
}

void ReclaimGroup::Add(pid_t pid) const {
  if (!WriteHostFile(path_ + "/cgroup.procs", std::to_string(pid))) throw std::runtime_error(ErrorText(path_));
}

void ReclaimGroup::Reclaim() const {
  // Both fail if something is left.
  if (version_2_) {
    WriteHostFile(path_ + "/memory.reclaim", "1G");
  } else {
    WriteHostFile(path_ + "/memory.force_empty", "1");
  }
}

}  // namespace cow::live

// A temporary tree of files that looks like /proc and /sys. The destructor removes it. A failed write throws and so
// ends the test.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace cow::test {

class FixtureTree {
 public:
  FixtureTree() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cow_fixture.XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) Throw("mkdtemp " + pattern);
    path_ = std::filesystem::canonical(pattern).string();
  }
  FixtureTree(const FixtureTree&) = delete;
  FixtureTree& operator=(const FixtureTree&) = delete;
  ~FixtureTree() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string Path(std::string_view file) const { return path_ + "/" + std::string(file); }

  // All of these create the directories above `file`.
  void MakeDirectory(std::string_view directory) const { std::filesystem::create_directories(Path(directory)); }

  // Replaces the whole file.
  void WriteFile(std::string_view file, std::string_view text) const {
    Write(file, O_TRUNC, text.data(), text.size(), 0);
  }

  // Writes 64-bit words from word `word_offset` on and keeps the rest of the file. Unwritten words are holes and read
  // as zero. For pagemap (one entry per page), kpageflags and kpagecount (one word per frame).
  void WriteWords(std::string_view file, uint64_t word_offset, std::span<const uint64_t> words) const {
    Write(file, 0, words.data(), words.size_bytes(), word_offset * sizeof(uint64_t));
  }

  // Cuts the file, or extends it with a hole, to `bytes`.
  void SetSize(std::string_view file, uint64_t bytes) const {
    Write(file, 0, nullptr, 0, 0);
    std::filesystem::resize_file(Path(file), bytes);
  }

  void Symlink(std::string_view link, std::string_view target) const {
    MakeParent(link);
    std::filesystem::remove(Path(link));
    std::filesystem::create_symlink(std::string(target), Path(link));
  }

  // Removes a file, a link or a whole directory.
  void Remove(std::string_view file) const { std::filesystem::remove_all(Path(file)); }

 private:
  [[noreturn]] static void Throw(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
  }

  void MakeParent(std::string_view file) const {
    std::filesystem::create_directories(std::filesystem::path(Path(file)).parent_path());
  }

  void Write(std::string_view file, int flags, const void* data, size_t bytes, uint64_t offset) const {
    MakeParent(file);
    const int fd = open(Path(file).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (fd < 0) Throw("open " + Path(file));
    const ssize_t written = pwrite(fd, data, bytes, static_cast<off_t>(offset));
    const bool complete = written == static_cast<ssize_t>(bytes);
    close(fd);
    if (!complete) Throw("write " + Path(file));
  }

  std::string path_;
};

}  // namespace cow::test

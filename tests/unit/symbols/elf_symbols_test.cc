// ELF files that lie about themselves. They are parsed where they do no harm: in the confined process.
#include "collectors/symbols/elf_symbols.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "collectors/symbols/symbolizer.h"
#include "tests/unit/symbols/target.h"

namespace cow::symbols {
namespace {

std::string ReadProgram() {
  std::ifstream file(test::TargetPath("pie"), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

procfs::FileDescriptor FileOf(const std::string& bytes) {
  procfs::FileDescriptor file(memfd_create("elf", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

class HostileElfTest : public testing::Test {
 protected:
  HostileElfTest() {
    std::memcpy(&header_, program_.data(), sizeof(header_));
    for (size_t i = 0; i < header_.e_shnum; ++i) {
      Elf64_Shdr section;
      std::memcpy(&section, program_.data() + header_.e_shoff + i * sizeof(section), sizeof(section));
      if (section.sh_type == SHT_SYMTAB) symbols_ = i;
    }
    for (size_t i = 0; i < header_.e_phnum; ++i) {
      Elf64_Phdr segment;
      std::memcpy(&segment, program_.data() + header_.e_phoff + i * sizeof(segment), sizeof(segment));
      if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) code_ = segment.p_offset;
    }
  }

  // The program with another header.
  std::string With(const std::function<void(Elf64_Ehdr&)>& change) const {
    Elf64_Ehdr header = header_;
    change(header);
    std::string bytes = program_;
    std::memcpy(bytes.data(), &header, sizeof(header));
    return bytes;
  }
  // The program with another section of symbols.
  std::string WithSymbols(const std::function<void(Elf64_Shdr&)>& change) const {
    std::string bytes = program_;
    char* place = bytes.data() + header_.e_shoff + symbols_ * sizeof(Elf64_Shdr);
    Elf64_Shdr section;
    std::memcpy(&section, place, sizeof(section));
    change(section);
    std::memcpy(place, &section, sizeof(section));
    return bytes;
  }
  Symbol Resolve(const std::string& bytes) {
    auto file = std::make_shared<CodeFile>();
    file->number = ++number_;
    file->descriptor = FileOf(bytes);
    return symbolizer_.Resolve({CodeLocation::Kind::kFile, getpid(), getpid(), code_, code_, std::move(file)});
  }
  // The next file has its names, whatever the last one did.
  void ExpectHealthy() {
    const test::Target target(test::TargetPath("pie"));
    CodeMaps maps;
    ASSERT_TRUE(maps.Add(target.pid()));
    CodeLocation location = maps.Locate(target.pid(), target.At("alpha"));
    auto file = std::make_shared<CodeFile>();
    file->number = ++number_;
    file->descriptor = FileOf(program_);
    location.file = file;
    EXPECT_EQ(symbolizer_.Resolve(location).function, "alpha");
  }

  const std::string program_ = ReadProgram();
  Elf64_Ehdr header_{};
  size_t symbols_ = 0;
  uint64_t code_ = 0;
  uint64_t number_ = 1000;
  Symbolizer symbolizer_;
};

TEST_F(HostileElfTest, WhatIsNoProgramHasNoNames) {
  EXPECT_FALSE(Resolve(program_).offset_is_file);
  const std::vector<std::pair<const char*, std::string>> files{
      {"empty", ""},
      {"text", "#!/bin/sh\n"},
      {"archive", "!<arch>\n" + std::string(1000, ' ')},
      {"gzip", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10)},
      {"object", With([](Elf64_Ehdr& header) { header.e_type = ET_REL; })},
      {"core", With([](Elf64_Ehdr& header) { header.e_type = ET_CORE; })},
      {"no segments", With([](Elf64_Ehdr& header) { header.e_phnum = 0; })},
      {"segments behind the end", With([](Elf64_Ehdr& header) { header.e_phoff = uint64_t{1} << 40U; })},
      {"header alone", program_.substr(0, sizeof(Elf64_Ehdr))}};
  for (const auto& [name, bytes] : files) {
    const Symbol symbol = Resolve(bytes);
    EXPECT_FALSE(symbol.function) << name;
    EXPECT_TRUE(symbol.offset_is_file) << name;
    EXPECT_EQ(symbol.offset, code_) << name;
  }
  ExpectHealthy();
  EXPECT_EQ(symbolizer_.counts().restarts, 0U);
}

TEST_F(HostileElfTest, AnotherFileThanTheMappedOneHasNoNames) {
  auto file = std::make_shared<CodeFile>();
  file->number = ++number_;
  file->descriptor = FileOf(program_);
  file->build_id = std::string(20, '\x11');
  const Symbol symbol =
      symbolizer_.Resolve({CodeLocation::Kind::kFile, getpid(), getpid(), code_, code_, std::move(file)});
  EXPECT_FALSE(symbol.function);
  EXPECT_TRUE(symbol.offset_is_file);
  EXPECT_EQ(symbol.build_id, "1111111111111111111111111111111111111111");
}

TEST_F(HostileElfTest, LyingTablesCostOnlyTheirOwnNames) {
  ASSERT_NE(symbols_, 0U);
  const std::vector<std::string> files{
      With([](Elf64_Ehdr& header) { header.e_shnum = 0xffff; }),
      With([](Elf64_Ehdr& header) { header.e_shnum = 0; }),  // the first section has the number
      With([](Elf64_Ehdr& header) { header.e_phnum = 0xfffe; }),
      With([](Elf64_Ehdr& header) { header.e_phnum = PN_XNUM; }),
      With([](Elf64_Ehdr& header) { header.e_shoff = ~uint64_t{0} - 8; }),
      With([](Elf64_Ehdr& header) { header.e_shentsize = 1; }),
      With([](Elf64_Ehdr& header) { header.e_shstrndx = 0xfff0; }),
      With([](Elf64_Ehdr& header) { header.e_machine = 0x1234; }),
      With([](Elf64_Ehdr& header) { header.e_ident[EI_CLASS] = ELFCLASS32; }),
      With([](Elf64_Ehdr& header) { header.e_ident[EI_DATA] = ELFDATA2MSB; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_size = uint64_t{1} << 60U; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_offset = ~uint64_t{0} - 100; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_entsize = 0; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_entsize = 1; }),
      WithSymbols([this](Elf64_Shdr& section) { section.sh_link = static_cast<uint32_t>(symbols_); }),  // itself
      WithSymbols([](Elf64_Shdr& section) { section.sh_link = 0xffffff; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_info = 0xffffffff; }),
      WithSymbols([](Elf64_Shdr& section) { section.sh_flags |= SHF_COMPRESSED; })};
  for (const std::string& bytes : files) Resolve(bytes);
  ExpectHealthy();
}

TEST_F(HostileElfTest, CutFilesCostOnlyTheirOwnNames) {
  constexpr size_t kParts = 48;
  for (size_t part = 1; part < kParts; ++part) Resolve(program_.substr(0, program_.size() * part / kParts));
  ExpectHealthy();
}

TEST_F(HostileElfTest, DeepNamesCostOnlyTheirOwnNames) {
  // A name whose demangling recurses, where "alpha" was, and one that grows without end.
  for (const std::string& name : {"_Z1f" + std::string(900, 'P') + "i", std::string("_Z") + std::string(500, 'N')}) {
    auto bytes = program_;
    const size_t place = bytes.find(std::string("\0alpha\0", 7));
    ASSERT_NE(place, std::string::npos);
    bytes.replace(place + 1, std::min(name.size(), bytes.size() - place - 1), name);
    Resolve(bytes);
  }
  ExpectHealthy();
}

TEST(ElfSymbolsTest, MapsOffsetsOfCodeOnly) {
  const procfs::FileDescriptor file = FileOf(ReadProgram());
  const auto symbols = ElfSymbols::Read(file, {});
  ASSERT_NE(symbols, nullptr);
  EXPECT_EQ(symbols->build_id().size(), 20U);
  EXPECT_FALSE(symbols->Address(0));  // the headers
  EXPECT_FALSE(symbols->Address(~uint64_t{0}));
  EXPECT_FALSE(symbols->Function(0));
  EXPECT_FALSE(symbols->Function(~uint64_t{0}));
}

}  // namespace
}  // namespace cow::symbols

#include "collectors/symbols/symbolizer.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"
#include "tests/unit/symbols/target.h"

namespace cow::symbols {
namespace {

constexpr uint64_t kInside = 2;

class SymbolizerTest : public testing::Test {
 protected:
  void Watch(const test::Target& target) {
    const auto added = maps_.Add(target.pid());
    ASSERT_TRUE(added) << added.error().ToString();
  }
  Symbol Resolve(pid_t pid, uint64_t address) { return symbolizer_.Resolve(maps_.Locate(pid, address)); }
  Symbol Resolve(const test::Target& target, const std::string& name, uint64_t offset = 0) {
    return Resolve(target.pid(), target.At(name) + offset);
  }

  // Names that hold for each program with a symbol table.
  void ExpectNames(const test::Target& target) {
    EXPECT_EQ(Resolve(target, "alpha").function, "alpha");
    EXPECT_EQ(Resolve(target, "alpha", kInside).function, "alpha");
    const std::string gamma = Resolve(target, "gamma").function.value_or("");
    EXPECT_TRUE(gamma.starts_with("names::Gamma(std::")) << gamma;
    EXPECT_EQ(Resolve(target, "sized").function, "sized");
    EXPECT_EQ(Resolve(target, "gap", -uint64_t{1}).function, "sized");
    for (const char* nobodys : {"gap", "sizeless"}) {
      EXPECT_FALSE(Resolve(target, nobodys).function) << nobodys;
      EXPECT_FALSE(Resolve(target, nobodys, kInside).function) << nobodys;
    }
    EXPECT_EQ(Resolve(target, "outer").function, "outer");
    EXPECT_EQ(Resolve(target, "inner").function, "inner");
    EXPECT_EQ(Resolve(target, "inner_end").function, "outer");
    EXPECT_EQ(Resolve(target, "public_name").function, "public_name");
    EXPECT_EQ(Resolve(target, "cloned").function, "cloned_function");
  }

  Symbolizer symbolizer_;
  CodeMaps maps_;
};

// What binutils' addr2line says about a symbol.
std::string Addr2Line(const std::string& path, uint64_t offset) {
  std::array<char, 64> number{};
  std::snprintf(number.data(), number.size(), "%lx", static_cast<unsigned long>(offset));
  const std::string command = "addr2line -f -e " + path + " " + number.data();
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> output(popen(command.c_str(), "r"), &pclose);
  std::array<char, 256> line{};
  if (output == nullptr || std::fgets(line.data(), line.size(), output.get()) == nullptr) return {};
  std::string text(line.data());
  return text.substr(0, text.find('\n'));
}

TEST_F(SymbolizerTest, NamesPositionIndependentPrograms) {
  const test::Target target(test::TargetPath("pie"));
  Watch(target);
  ExpectNames(target);
  const Symbol alpha = Resolve(target, "alpha");
  EXPECT_EQ(alpha.kind, Symbol::Kind::kUser);
  EXPECT_EQ(alpha.object, test::TargetPath("pie"));
  EXPECT_EQ(alpha.build_id.size(), 40U);
  EXPECT_FALSE(alpha.offset_is_file);
  EXPECT_EQ(Addr2Line(alpha.object, alpha.offset), "alpha");
  EXPECT_EQ(Resolve(target, "getppid").function, "getppid");
  EXPECT_TRUE(Resolve(target, "getppid").object.find("libc") != std::string::npos);
}

TEST_F(SymbolizerTest, NamesProgramsAtFixedAddresses) {
  const test::Target target(test::TargetPath("fixed"));
  Watch(target);
  ExpectNames(target);
  EXPECT_EQ(Resolve(target, "alpha").offset, target.At("alpha"));
  EXPECT_EQ(Addr2Line(test::TargetPath("fixed"), Resolve(target, "alpha").offset), "alpha");
  // The address of a library's function is that of its stub in such a program.
  EXPECT_FALSE(Resolve(target, "getppid").function);
  EXPECT_EQ(Resolve(target, "getppid").object, test::TargetPath("fixed"));
}

TEST_F(SymbolizerTest, NamesStaticPrograms) {
  const test::Target target(test::TargetPath("static"));
  Watch(target);
  ExpectNames(target);
  EXPECT_EQ(Resolve(target, "getppid").function, "getppid");
}

TEST_F(SymbolizerTest, GivesObjectOffsetAndBuildIdWhereSymbolsAreStripped) {
  const test::Target target(test::TargetPath("stripped"));
  Watch(target);
  const Symbol alpha = Resolve(target, "alpha");
  EXPECT_FALSE(alpha.function);
  EXPECT_EQ(alpha.object, test::TargetPath("stripped"));
  EXPECT_EQ(alpha.build_id.size(), 40U);
  EXPECT_FALSE(alpha.offset_is_file);
  EXPECT_EQ(Resolve(target, "gamma").offset - alpha.offset, target.At("gamma") - target.At("alpha"));
}

TEST_F(SymbolizerTest, ReadsSeparateDebugFilesBelowTheTargetsRoot) {
  const test::Target target(test::TargetPath("split"));
  Watch(target);
  const Symbol without = Resolve(target, "alpha");
  ASSERT_EQ(without.build_id.size(), 40U);
  EXPECT_FALSE(without.function);

  const test::FixtureTree tree;
  const std::string directory =
      std::to_string(target.pid()) + "/root/usr/lib/debug/.build-id/" + without.build_id.substr(0, 2) + "/";
  const std::string file = tree.Path(directory + without.build_id.substr(2) + ".debug");
  const std::string debug = test::TargetPath("split") + ".debug";
  tree.MakeDirectory(directory);
  std::filesystem::copy_file(debug, file);
  Symbolizer symbolizer({}, procfs::Root(tree.path()));
  EXPECT_EQ(symbolizer.Resolve(maps_.Locate(target.pid(), target.At("alpha"))).function, "alpha");
  EXPECT_EQ(symbolizer.Resolve(maps_.Locate(target.pid(), target.At("inner"))).function, "inner");

  // A file of another program with this name is not used.
  std::filesystem::copy_file(test::TargetPath("pie"), file, std::filesystem::copy_options::overwrite_existing);
  Symbolizer other({}, procfs::Root(tree.path()));
  EXPECT_FALSE(other.Resolve(maps_.Locate(target.pid(), target.At("alpha"))).function);

  // A link could lead out of the target's root.
  std::filesystem::remove(file);
  std::filesystem::create_symlink(debug, file);
  Symbolizer third({}, procfs::Root(tree.path()));
  EXPECT_FALSE(third.Resolve(maps_.Locate(target.pid(), target.At("alpha"))).function);
}

TEST_F(SymbolizerTest, NamesCodeOfUnloadedLibraries) {
  test::Target target(test::TargetPath("pie"));
  target.Command("open " + test::TargetLibrary());
  Watch(target);
  const CodeLocation location = maps_.Locate(target.pid(), target.At("library_function"));
  target.Command("close");
  EXPECT_EQ(symbolizer_.Resolve(location).function, "library_function");
  EXPECT_EQ(symbolizer_.Resolve(location).object, test::TargetLibrary());
}

TEST_F(SymbolizerTest, NamesCodeOfUnlinkedPrograms) {
  const test::FixtureTree tree;
  const std::string path = tree.Path("program");
  std::filesystem::copy_file(test::TargetPath("pie"), path);
  const test::Target target(path);
  std::filesystem::remove(path);
  Watch(target);
  ExpectNames(target);
  EXPECT_EQ(Resolve(target, "alpha").object, path + " (deleted)");
}

TEST_F(SymbolizerTest, NamesCodeOfEndedProcesses) {
  CodeLocation location;
  {
    const test::FixtureTree tree;
    std::filesystem::copy_file(test::TargetPath("pie"), tree.Path("program"));
    const test::Target target(tree.Path("program"));
    Watch(target);
    location = maps_.Locate(target.pid(), target.At("alpha"));
  }
  maps_.Exit(location.pid);
  EXPECT_EQ(symbolizer_.Resolve(location).function, "alpha");
}

TEST_F(SymbolizerTest, NamesCodeOfOtherMountNamespaces) {
  const test::FixtureTree tree;
  tree.MakeDirectory("hidden");
  const std::string directory = tree.Path("hidden");
  const std::string source = test::TargetPath("pie");
  const auto enter = [&directory, &source] {
    // Nothing of this is visible outside.
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("none", directory.c_str(), "tmpfs", 0, nullptr) == 0 &&
           std::filesystem::copy_file(source, directory + "/program");
  };
  std::unique_ptr<test::Target> target;
  try {
    target = std::make_unique<test::Target>(directory + "/program", enter);
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << test::MissingPrivilege(test::kMounts);
  }
  ASSERT_FALSE(std::filesystem::exists(directory + "/program"));
  Watch(*target);
  ExpectNames(*target);
}

TEST_F(SymbolizerTest, NamesTheKernel) {
  const auto read = symbolizer_.ReadKernelSymbols();
  const Symbol symbol = symbolizer_.Resolve(CodeMaps::Kernel(~uint64_t{0} - 4096));
  EXPECT_EQ(symbol.kind, Symbol::Kind::kKernel);
  EXPECT_FALSE(symbol.function);
  EXPECT_EQ(symbol.object, "[kernel]");
  EXPECT_TRUE(read || read.error().kind == ErrorKind::kDenied);
}

TEST_F(SymbolizerTest, LeavesUnknownCodeWithoutName) {
  const test::Target target(test::TargetPath("pie"));
  EXPECT_EQ(Resolve(target, "alpha").kind, Symbol::Kind::kUnknown);
  EXPECT_EQ(Resolve(target, "alpha").object, "[unknown]");
  EXPECT_EQ(Resolve(target, "alpha").offset, target.At("alpha"));
  Watch(target);
  EXPECT_EQ(Resolve(target.pid(), 0x1000).kind, Symbol::Kind::kUnknown);
}

}  // namespace
}  // namespace cow::symbols

// /proc/PID/maps, read as a file and line by line.
#include <string>

#include "collectors/procfs/maps.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"
#include "tests/support/fixture_tree.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const cow::test::FixtureTree tree;
  static const procfs::Root root(tree.path(), tree.path());
  const std::string_view text = cow::fuzz::Text(data, size);
  static_cast<void>(procfs::ParseMapsLine(text.substr(0, text.find('\n')), "maps"));
  tree.WriteFile("1/maps", text);
  const auto vmas = procfs::ReadMaps(root, 1);
  if (!vmas) return 0;
  uint64_t end = 0;
  for (const procfs::Vma& vma : *vmas) {
    Check(vma.start >= end && vma.end > vma.start, "addresses ascend");
    Check(vma.path.size() <= procfs::kMaxPathBytes, "the path is bounded");
    end = vma.end;
  }
  return 0;
}

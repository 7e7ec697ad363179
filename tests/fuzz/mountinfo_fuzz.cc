// /proc/PID/mountinfo.
#include "collectors/procfs/mountinfo.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"
#include "tests/support/fixture_tree.h"

namespace procfs = cow::procfs;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const cow::test::FixtureTree tree;
  static const procfs::Root root(tree.path(), tree.path());
  tree.WriteFile("1/mountinfo", cow::fuzz::Text(data, size));
  auto reader = procfs::MountinfoReader::Open(root, 1);
  cow::fuzz::Check(reader.has_value(), "the file opens");
  size_t mounts = 0;
  for (auto mount = reader->Next(); mount && *mount != nullptr; mount = reader->Next()) {
    cow::fuzz::Check(++mounts <= size, "each mount has a line");
  }
  return 0;
}

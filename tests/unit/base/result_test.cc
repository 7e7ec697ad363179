#include "collectors/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace cow {
namespace {

TEST(ErrorTest, ClassifiesErrno) {
  EXPECT_EQ(Error::FromErrno("f", ENOENT).kind, ErrorKind::kGone);
  EXPECT_EQ(Error::FromErrno("f", ESRCH).kind, ErrorKind::kGone);
  EXPECT_EQ(Error::FromErrno("f", EACCES).kind, ErrorKind::kDenied);
  EXPECT_EQ(Error::FromErrno("f", EPERM).kind, ErrorKind::kDenied);
  EXPECT_EQ(Error::FromErrno("f", EIO).kind, ErrorKind::kIo);
  EXPECT_EQ(Error::FromErrno("f", EMFILE).kind, ErrorKind::kIo);
}

TEST(ErrorTest, NamesKindsAsLabels) {
  EXPECT_EQ(ErrorKindName(ErrorKind::kGone), "gone");
  EXPECT_EQ(ErrorKindName(ErrorKind::kDenied), "denied");
  EXPECT_EQ(ErrorKindName(ErrorKind::kMalformed), "malformed");
  EXPECT_EQ(ErrorKindName(ErrorKind::kTooLarge), "too_large");
  EXPECT_EQ(ErrorKindName(ErrorKind::kIo), "io");
}

TEST(ErrorTest, SaysWhereAndWhy) {
  EXPECT_EQ(Error::FromErrno("/proc/1/maps", EACCES).ToString(), "/proc/1/maps: Permission denied");
  EXPECT_EQ(Error::Malformed("/proc/1/stat", "bad ppid: \"x\"").ToString(), "/proc/1/stat: bad ppid: \"x\"");
  EXPECT_EQ((Error{ErrorKind::kIo, "/f", EIO, "block 3"}).ToString(), "/f: block 3 (Input/output error)");
  EXPECT_EQ((Error{ErrorKind::kIo, "/f", 0, ""}).ToString(), "/f");
}

}  // namespace
}  // namespace cow

#include "collectors/base/bitmap.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace cow {
namespace {

TEST(BitmapTest, SetsClearsAndCountsBits) {
  WindowBitmap bitmap(192);
  for (const size_t bit : {0U, 63U, 64U, 130U}) bitmap.Set(bit);
  EXPECT_TRUE(bitmap.Test(63));
  EXPECT_FALSE(bitmap.Test(65));
  EXPECT_EQ(bitmap.Count(), 4U);
  EXPECT_EQ(bitmap.Count(0, 64), 2U);
  EXPECT_EQ(bitmap.Count(1, 63), 1U);
  EXPECT_EQ(bitmap.Count(63, 2), 2U);
  EXPECT_EQ(bitmap.Count(65, 66), 1U);
  EXPECT_EQ(bitmap.Count(10, 0), 0U);
  std::vector<size_t> bits;
  bitmap.ForEach([&bits](size_t bit) { bits.push_back(bit); });
  EXPECT_EQ(bits, (std::vector<size_t>{0, 63, 64, 130}));
  bitmap.Clear(64);
  EXPECT_FALSE(bitmap.Test(64));
  bitmap.Reset(100);
  EXPECT_FALSE(bitmap.Any());
  bitmap.Fill(100);
  EXPECT_EQ(bitmap.Count(), 128U) << "whole words";
}

TEST(BitmapTest, ViewsReferToTheWords) {
  WindowBitmap bitmap(64);
  const BitmapSpan span(bitmap);
  const BitmapView view = span;
  span.Set(5);
  EXPECT_TRUE(view.Test(5));
  EXPECT_TRUE(AreSameWords(bitmap, view));
  WindowBitmap copy;
  copy.Assign(view);
  EXPECT_TRUE(AreEqual(copy, bitmap));
  EXPECT_FALSE(AreSameWords(copy, bitmap));
  copy.Set(6);
  EXPECT_FALSE(AreEqual(copy, bitmap));
  EXPECT_TRUE(BitmapView().empty());
}

TEST(BitmapTest, SeveralBitmapsShareABuffer) {
  WindowBitmaps bitmaps(100);
  bitmaps.Resize(3);
  EXPECT_EQ(bitmaps.size(), 3U);
  EXPECT_FALSE(bitmaps.Any());
  bitmaps.At(1).Set(99);
  EXPECT_TRUE(std::as_const(bitmaps).At(1).Test(99));
  EXPECT_FALSE(bitmaps.At(0).Any());
  EXPECT_FALSE(bitmaps.At(2).Any());
}

}  // namespace
}  // namespace cow

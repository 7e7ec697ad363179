// A library that writes to pages of its caller.
#include <cstddef>

extern "C" void write_in_library(volatile char* pages, size_t count, size_t page_bytes) {
  for (size_t i = 0; i < count; ++i) pages[i * page_bytes] = 1;
}

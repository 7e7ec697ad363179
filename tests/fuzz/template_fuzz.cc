// Templates of group names, which written as text give the same template.
#include "config/name_template.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto name = cow::config::ParseNameTemplate(cow::fuzz::Text(data, size));
  if (!name) {
    cow::fuzz::Check(!name.error().empty(), "an error has a text");
    return 0;
  }
  const auto again = cow::config::ParseNameTemplate(cow::config::TextOf(*name));
  cow::fuzz::Check(again && *again == *name, "the same template: " + cow::config::TextOf(*name));
  return 0;
}

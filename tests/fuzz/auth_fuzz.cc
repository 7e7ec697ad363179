// The header Authorization.
#include "exporter/http/authentication.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto credentials = cow::exporter::ParseBasicAuthorization(cow::fuzz::Text(data, size));
  if (!credentials) return 0;
  cow::fuzz::Check(credentials->user.find(':') == std::string::npos, "a user has no colon");
  cow::fuzz::Check(credentials->user.size() + credentials->password.size() < size, "base64 is longer than its bytes");
  return 0;
}

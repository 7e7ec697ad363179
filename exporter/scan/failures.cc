#include "exporter/scan/failures.h"

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace cow::exporter {

void ScanFailures::RecordException(const char* what) noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    Record(ScanFailure::kMemory, what, "out of memory");
  } catch (const std::exception& error) {
    Record(ScanFailure::kError, what, error.what());
  } catch (...) {
    Record(ScanFailure::kError, what, "unknown");
  }
}

void ScanFailures::Record(ScanFailure reason, const char* what, std::string_view error) noexcept {
  failing_ = true;
  ++counts_.at(static_cast<size_t>(reason));
  try {
    if (const auto admitted = logged_.Admit(std::string(error))) log_.Error(what, {{"error", *admitted}});
  } catch (...) {  // no memory: the metric counts it
  }
}

void ScanFailures::RecordSuccess() {
  logged_.Reset();
  if (std::exchange(failing_, false)) log_.Info("passes complete again");
}

}  // namespace cow::exporter

// Lets a caller stop long work.
#pragma once

#include <functional>

namespace cow {

// The work calls it between two steps. If it returns false, the work stops as soon as its state is consistent.
using MayGoOn = std::function<bool()>;

}  // namespace cow

// Lets the caller of long work stop it.
#pragma once

#include <functional>

namespace cow {

// Asked between two steps of long work. False: stop as soon as the state is consistent.
using MayGoOn = std::function<bool()>;

}  // namespace cow

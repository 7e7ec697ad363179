// What a pass may do in tests: all it wants, or nothing.
#pragma once

#include "collectors/engine.h"

namespace cow::test {

class NoControl : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

// Ends a pass at its first step.
class Abandon : public collectors::PassControl {
 public:
  bool Continue() override { return false; }
};

}  // namespace cow::test

// Chooses the process to explain by name or group, and says why there is none. Pure but for the search. One thread at a
// time.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <tl/expected.hpp>

#include "collectors/explain/explainer.h"
#include "collectors/explain/family_search.h"
#include "exporter/explain/command.h"

namespace cow::exporter {

// Returns the process of the only family that fits, or a message for a person: lines with newlines, up to `width`
// columns wide where they list families.
tl::expected<pid_t, std::string> ChooseProcess(explain::Explainer& explainer, const ExplainOptions& options,
                                               size_t width);

// The choice itself. `by`: what was searched, as a phrase: `named "x"`.
tl::expected<pid_t, std::string> ChooseFrom(const explain::FamilySearch& found, const std::string& name,
                                            const std::string& by, size_t width);

}  // namespace cow::exporter

#include "exporter/sandbox/sandbox.h"

#include <link.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include "exporter/sandbox/landlock.h"
#include "exporter/sandbox/policies.h"
#include "exporter/sandbox/throw_errno.h"

namespace cow::exporter {
namespace {

#ifdef COW_SANITIZED
constexpr bool kSanitized = true;  // sanitizers need system calls that the filters refuse
#else
constexpr bool kSanitized = false;
#endif

// GnuTLS reads these when it is loaded, before the front has confined itself.
constexpr std::array kSettingsOfLibraries{"/etc/gnutls", "/etc/ld.so.cache", "/proc/sys/crypto/fips_enabled"};

void Harden() {
  const auto require = [](int result, const char* what) {
    if (result != 0) ThrowErrno(what);
  };
  require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  require(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
  const rlimit none{0, 0};
  require(setrlimit(RLIMIT_CORE, &none), "RLIMIT_CORE");
}

// The program that the launcher starts is its own, so it needs the same shared libraries. Names directories, because an
// upgrade replaces the files.
std::vector<std::string> DirectoriesOfLibraries() {
  std::vector<std::string> directories;
  const auto add = [](dl_phdr_info* info, size_t /*bytes*/, void* result) {
    // The program itself has no name, and the vDSO no path.
    const std::filesystem::path path(info->dlpi_name);
    if (path.is_absolute()) static_cast<std::vector<std::string>*>(result)->push_back(path.parent_path());
    return 0;
  };
  dl_iterate_phdr(add, &directories);
  std::sort(directories.begin(), directories.end());
  directories.erase(std::unique(directories.begin(), directories.end()), directories.end());
  return directories;
}

// Runs one part. Returns true if it is in force.
bool TryPart(SandboxMode mode, const std::string& name, const std::function<void()>& part, SandboxState& state) {
  try {
    part();
    return true;
  } catch (const std::exception& error) {
    state.missing.push_back(name + ": " + error.what());
  }
  if (mode == SandboxMode::kRequire) throw std::runtime_error("the sandbox is incomplete: " + state.missing.back());
  return false;
}

// `rules` is null for a process that must not enter a domain.
SandboxState Confine(SandboxMode mode, const LandlockRules* rules, const std::function<Filter()>& make_filter) {
  SandboxState state;
  if (mode == SandboxMode::kOff) {
    state.missing.emplace_back("switched off");
    return state;
  }
  if (kSanitized) {
    state.missing.emplace_back("built with a sanitizer");
    if (mode == SandboxMode::kRequire) throw std::runtime_error("the sandbox is incomplete: built with a sanitizer");
    return state;
  }
  TryPart(mode, "privileges", &Harden, state);
  // The filter refuses the system calls of Landlock, so it comes last.
  const auto enter_domain = [rules] { EnterLandlockDomain(*rules); };
  if (rules != nullptr) state.landlock = TryPart(mode, "Landlock", enter_domain, state);
  state.seccomp = TryPart(
      mode, "seccomp", [&make_filter] { make_filter().Load(); }, state);
  return state;
}

}  // namespace

SandboxState ConfineReader(SandboxMode mode) { return Confine(mode, nullptr, &ReaderFilter); }

SandboxState ConfineRecordingReader(SandboxMode mode) { return Confine(mode, nullptr, &RecordingReaderFilter); }

SandboxState ConfineLauncher(SandboxMode mode, int program, std::span<const std::string> socket_directories) {
  std::vector<std::string> readable = DirectoriesOfLibraries();
  readable.insert(readable.end(), kSettingsOfLibraries.begin(), kSettingsOfLibraries.end());
  LandlockRules rules;
  rules.readable = readable;
  rules.removable = socket_directories;
  rules.program = program;
  return Confine(mode, &rules,
                 [program, removes = !socket_directories.empty()] { return LauncherFilter(program, removes); });
}

SandboxState ConfineFront(SandboxMode mode) {
  const LandlockRules nothing;
  return Confine(mode, &nothing, &FrontFilter);
}

bool SandboxIsComplete(SandboxMode mode) {
  return mode != SandboxMode::kOff && !kSanitized && LandlockVersion() > 0 && KernelHasFilters();
}

std::string InForce(const SandboxState& state) {
  if (state.seccomp && state.landlock) return "seccomp and Landlock";
  if (state.seccomp) return "seccomp";
  return state.landlock ? "Landlock" : "nothing";
}

}  // namespace cow::exporter

#include "exporter/writers/command.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "collectors/explain/explainer.h"
#include "collectors/procfs/root.h"
#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/watch.h"
#include "exporter/explain/choice.h"
#include "exporter/explain/end_signals.h"
#include "exporter/explain/output.h"
#include "exporter/writers/formats.h"
#include "exporter/writers/words.h"

namespace cow::exporter {
namespace {

using Stacks = WritersOptions::Stacks;

constexpr size_t kWidth = 80;  // of a list of families
// A copy of a stack takes 8 KiB.
constexpr size_t kStackRingBytes = size_t{64} << 20U;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

faults::Stacks StacksOf(Stacks stacks) {
  switch (stacks) {
    case Stacks::kFramePointers:
      return faults::Stacks::kFramePointers;
    case Stacks::kDwarf:
      return faults::Stacks::kDwarf;
    case Stacks::kOff:
      break;
  }
  return faults::Stacks::kNone;
}

// Says what went wrong on `problem` and returns the exit code.
int Fail(std::FILE* problem, const std::string& message) {
  std::fputs(("cow_exporter: " + message + "\n").c_str(), problem);
  return 1;
}

std::string Reason(const std::string& what) { return what + ": " + std::generic_category().message(errno); }

// A file to be written after the watch. Opened before, so that an error costs no time.
struct Output {
  std::string path;
  File file;
};
std::optional<Output> OpenOutput(const std::string& path) {
  File file(std::fopen(path.c_str(), "we"));
  if (file == nullptr) return std::nullopt;
  return Output{path, std::move(file)};
}

}  // namespace

int RunWriters(const ExplainOptions& options, std::FILE* out, std::FILE* problem) {
  const WritersOptions& wanted = *options.writers;
  const EndSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  std::optional<Output> folded;
  std::optional<Output> pprof;
  for (const auto& [path, output] : {std::pair(&wanted.folded, &folded), std::pair(&wanted.pprof, &pprof)}) {
    if (!*path) continue;
    *output = OpenOutput(**path);
    if (!*output) return Fail(problem, Reason("can't write " + **path));
  }

  const procfs::Root root(options.procfs, options.sysfs);
  symbols::Symbolizer symbolizer(symbols::Symbolizer::Options(), root);
  writers::WatchOptions watch;
  watch.pid = options.pid;
  if (watch.pid == 0) {
    explain::Explainer explainer(root);
    const auto chosen = ChooseProcess(explainer, options, kWidth);
    if (!chosen) {
      std::fputs(("cow_exporter: " + chosen.error()).c_str(), problem);
      return 1;
    }
    watch.pid = *chosen;
  }
  watch.time = wanted.time;
  watch.recorder.stacks = StacksOf(wanted.stacks);
  if (wanted.stacks == Stacks::kDwarf) watch.recorder.ring_bytes = kStackRingBytes;
  watch.ends_within = [&signals](std::chrono::milliseconds time) { return signals.CameWithin(time); };
  watch.on_begin = [problem, &wanted](size_t members) {
    const double seconds = std::chrono::duration<double>(wanted.time).count();
    std::fprintf(problem, "watching %zu process%s for %g s; Ctrl-C ends early\n", members, members == 1 ? "" : "es",
                 seconds);
    std::fflush(problem);
  };
  const auto report = writers::WatchWriters(root, symbolizer, watch);
  if (!report) return Fail(problem, report.error().message);

  // The files are written also if the reader of the result has gone.
  const auto failed = WriteResult(out, options.json ? WritersJson(*report) : RenderWriters(*report), problem);
  if (failed && *failed != 0) return *failed;
  if (folded && !Write(folded->file.get(), WritersFolded(*report))) {
    return Fail(problem, Reason("can't write " + folded->path));
  }
  if (pprof && !Write(pprof->file.get(), WritersPprof(*report, std::chrono::system_clock::now()))) {
    return Fail(problem, Reason("can't write " + pprof->path));
  }
  return 0;
}

}  // namespace cow::exporter

#include "collectors/symbols/unwinder.h"

#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace cow::symbols {
namespace {

#if defined(__x86_64__)
// DWARF's numbers of ax, bx, cx, dx, si, di, bp, sp, ip and r8 to r15. The return address is the program counter.
constexpr std::array<int, 17> kDwarfNumbers{0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr size_t kStackPointer = 7;
constexpr size_t kProgramCounter = 8;
#elif defined(__aarch64__)
constexpr std::array<int, 33> kDwarfNumbers{0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                            17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, -1};
constexpr size_t kStackPointer = 31;
constexpr size_t kProgramCounter = 32;
#else
constexpr std::array<int, 0> kDwarfNumbers{};
constexpr size_t kStackPointer = 0;
constexpr size_t kProgramCounter = 0;
#endif

constexpr pid_t kThread = 1;

}  // namespace

struct Unwinder::State {
  std::vector<Module> modules;
  Session session;
  bool is_attached = false;
  std::span<const uint64_t> registers;
  std::string_view stack;
  std::vector<uint64_t> frames;

  static pid_t NextThread(Dwfl* /*session*/, void* data, void** thread) {
    if (*thread != nullptr) return 0;
    *thread = data;
    return kThread;
  }

  static bool GetThread(Dwfl* /*session*/, pid_t id, void* data, void** thread) {
    *thread = data;
    return id == kThread;
  }

  static bool ReadMemory(Dwfl* /*session*/, Dwarf_Addr address, Dwarf_Word* result, void* data) {
    const State& state = *static_cast<const State*>(data);
    const uint64_t bottom = state.registers[kStackPointer];
    if (address >= bottom && state.stack.size() >= sizeof(uint64_t) &&
        address - bottom <= state.stack.size() - sizeof(uint64_t)) {
      std::memcpy(result, state.stack.data() + (address - bottom), sizeof(uint64_t));
      return true;
    }
    for (const Module& each : state.modules) {
      if (address < each.start || address >= each.end) continue;
      const auto offset = static_cast<off_t>(address - each.start + each.file_offset);
      return pread(each.file->get(), result, sizeof(uint64_t), offset) == sizeof(uint64_t);
    }
    return false;
  }

  static bool SetRegisters(Dwfl_Thread* thread, void* data) {
    const State& state = *static_cast<const State*>(data);
    for (size_t i = 0; i < kDwarfNumbers.size(); ++i) {
      const Dwarf_Word value = state.registers[i];
      if (kDwarfNumbers[i] >= 0 && !dwfl_thread_state_registers(thread, kDwarfNumbers[i], 1, &value)) return false;
    }
    dwfl_thread_state_register_pc(thread, state.registers[kProgramCounter]);
    return true;
  }

  static int TakeFrame(Dwfl_Frame* frame, void* data) {
    State& state = *static_cast<State*>(data);
    Dwarf_Addr counter = 0;
    if (!dwfl_frame_pc(frame, &counter, nullptr) || counter == 0) return DWARF_CB_ABORT;
    // libdwfl guesses by frame pointers where it finds no information. A guess must lead to code.
    const bool is_code =
        state.frames.empty() || std::any_of(state.modules.begin(), state.modules.end(), [counter](const Module& each) {
          return counter - 1 >= each.start && counter - 1 < each.end;
        });
    if (!is_code) return DWARF_CB_ABORT;
    state.frames.push_back(counter);
    return state.frames.size() < kMaxFrames ? DWARF_CB_OK : DWARF_CB_ABORT;
  }
};

Unwinder::Unwinder(std::vector<Module> modules) : state_(std::make_unique<State>()) {
  state_->modules = std::move(modules);
  state_->session = NewSession();
  if (state_->session == nullptr) return;
  dwfl_report_begin(state_->session.get());
  std::vector<std::pair<const ElfSymbols*, uint64_t>> reported;
  for (const Module& each : state_->modules) {
    const auto bias = each.symbols->Bias(each.start, each.file_offset, each.end - each.start);
    if (!bias) continue;
    // A file may have several executable mappings.
    const std::pair<const ElfSymbols*, uint64_t> module(each.symbols, *bias);
    if (std::find(reported.begin(), reported.end(), module) != reported.end()) continue;
    reported.push_back(module);
    each.symbols->Report(state_->session.get(), *bias);
  }
  dwfl_report_end(state_->session.get(), nullptr, nullptr);
  static const Dwfl_Thread_Callbacks kThreadCallbacks{&State::NextThread,   &State::GetThread, &State::ReadMemory,
                                                      &State::SetRegisters, nullptr,           nullptr};
  state_->is_attached = dwfl_attach_state(state_->session.get(), nullptr, kThread, &kThreadCallbacks, state_.get());
}

Unwinder::~Unwinder() = default;

std::vector<uint64_t> Unwinder::Unwind(std::span<const uint64_t> registers, std::string_view stack) {
  if (registers.empty() || registers.size() != kDwarfNumbers.size()) return {};
  state_->registers = registers;
  state_->stack = stack;
  state_->frames.clear();
  // An error is the usual end of a stack.
  if (state_->is_attached) dwfl_getthread_frames(state_->session.get(), kThread, &State::TakeFrame, state_.get());
  if (state_->frames.empty()) state_->frames.push_back(registers[kProgramCounter]);
  return std::exchange(state_->frames, {});
}

}  // namespace cow::symbols

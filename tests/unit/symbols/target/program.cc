// A program whose code addresses are known. Prints "NAME ADDRESS" for each, an empty line, and then obeys commands:
//   open PATH   loads a library, prints "library_function ADDRESS" and an empty line
//   close       unloads it and prints an empty line
// Ends when its input ends. Built in several ways: see CMakeLists.txt.
#include <dlfcn.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>

// A function with a size, a gap that belongs to nobody, a symbol without a size, another gap, and a function inside of
// another one. `nop` exists on every architecture.
asm(R"(
  .text
  .balign 16
  .globl sized
  .type sized, %function
sized:
  nop
  nop
  nop
  nop
  .size sized, . - sized
  .globl gap
gap:
  nop
  nop
  nop
  nop
  .globl sizeless
  .type sizeless, %function
sizeless:
  nop
  nop
  nop
  nop
  .globl outer
  .type outer, %function
outer:
  nop
  nop
  .type inner, %function
inner:
  nop
  nop
  .size inner, . - inner
inner_end:
  nop
  nop
  .size outer, . - outer
  nop
  .globl __public_name
  .globl public_name
  .type __public_name, %function
  .type public_name, %function
__public_name:
public_name:
  nop
  nop
  .size __public_name, . - __public_name
  .size public_name, . - public_name
  .globl cloned
cloned:
  .type "cloned_function.part.0.cold", %function
"cloned_function.part.0.cold":
  nop
  nop
  .size "cloned_function.part.0.cold", 2
)");

extern "C" {
void sized();
void gap();
void sizeless();
void outer();
void inner();
void inner_end();
void public_name();
void cloned();
__attribute__((noinline, used)) int alpha(int value) { return value + static_cast<int>(getpid()); }
}

namespace names {
__attribute__((noinline, used)) int Gamma(const std::string& text) { return alpha(static_cast<int>(text.size())); }
}  // namespace names

namespace {

void Print(const char* name, const void* address) {
  std::printf("%s %" PRIu64 "\n", name, static_cast<uint64_t>(reinterpret_cast<uintptr_t>(address)));
}

void EndList() {
  std::printf("\n");
  std::fflush(stdout);
}

template <class Function>
const void* AddressOf(Function* function) {
  return reinterpret_cast<const void*>(function);
}

}  // namespace

int main() {
  Print("alpha", AddressOf(&alpha));
  Print("gamma", AddressOf(&names::Gamma));
  Print("getppid", AddressOf(&getppid));
  Print("sized", AddressOf(&sized));
  Print("gap", AddressOf(&gap));
  Print("sizeless", AddressOf(&sizeless));
  Print("outer", AddressOf(&outer));
  Print("inner", AddressOf(&inner));
  Print("inner_end", AddressOf(&inner_end));
  Print("public_name", AddressOf(&public_name));
  Print("cloned", AddressOf(&cloned));
  EndList();
  void* library = nullptr;
  std::string line;
  while (std::getline(std::cin, line)) {
#ifndef COW_STATIC
    if (line.starts_with("open ")) {
      library = dlopen(line.c_str() + 5, RTLD_NOW);
      if (library != nullptr) Print("library_function", dlsym(library, "library_function"));
    } else if (line == "close" && library != nullptr) {
      dlclose(library);
    }
#endif
    EndList();
  }
  return names::Gamma("") == 0 ? 1 : 0;
}

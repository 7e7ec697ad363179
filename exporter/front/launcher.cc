#include "exporter/front/launcher.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "exporter/front/spawn.h"
#include "exporter/sandbox/capabilities.h"

namespace cow::exporter {
namespace {

// Descriptors that the launcher starts with: its channel, the program, then the listening sockets.
constexpr int kControl = 3;
constexpr int kProgram = 4;
constexpr int kSockets = 5;

constexpr const char* kProgramName = "cow_exporter";
constexpr std::chrono::seconds kPatience{10};           // the launcher answers at once
constexpr std::chrono::milliseconds kEndPatience{100};  // a front whose channel closed ends by itself

// What the launcher does with a socket at its end.
constexpr char kKeep = 'k';
constexpr char kRemove = 'r';  // the file of a unix socket

enum class Order : uint32_t { kStart, kStop, kStopAndRefuse };

// The answer to kStart is a process id, or minus an errno; to the others, a wait status.
using Answer = int32_t;

template <class Value>
std::string_view AsBytes(const Value& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

template <class Value>
std::optional<Value> FromBytes(std::string_view bytes) {
  Value value{};
  if (bytes.size() != sizeof(value)) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

Answer Ask(const Channel& control, Order order, int descriptor) {
  bool closed = false;
  if (control.Send(AsBytes(order), descriptor, Channel::Wait::kForever) == Channel::Sent::kYes) {
    if (const auto reply = control.Receive(Channel::Descriptors::kRefuse, Channel::Wait::kForever, closed)) {
      if (const auto answer = FromBytes<Answer>(reply->Bytes())) return *answer;
    }
  }
  throw std::runtime_error("the launcher has ended");
}

int Domain(int socket) {
  int domain = 0;
  socklen_t size = sizeof(domain);
  return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 ? domain : AF_UNSPEC;
}

// The file of a unix socket, as long as no other one replaced it.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  static std::optional<SocketFile> Of(int socket) {
    const std::string path = UnixSocketFile(socket);
    struct stat info {};
    if (path.empty() || lstat(path.c_str(), &info) != 0) return std::nullopt;
    return SocketFile{path, info.st_dev, info.st_ino};
  }
  void Remove() const {
    struct stat info {};
    if (lstat(path.c_str(), &info) == 0 && info.st_dev == device && info.st_ino == inode) unlink(path.c_str());
  }
};

// The state of the launcher's process.
class Process {
 public:
  Process(size_t sockets, std::string_view ends) {
    for (size_t i = 0; i < sockets; ++i) {
      const int socket = kSockets + static_cast<int>(i);
      sockets_.push_back(socket);
      if (ends[i] == kRemove) {
        if (auto file = SocketFile::Of(socket)) files_.push_back(std::move(*file));
      }
    }
    // Above the descriptors of a front.
    program_ = fcntl(kProgram, F_DUPFD_CLOEXEC, kFrontSockets + static_cast<int>(sockets));
    if (program_ < 0) throw std::system_error(errno, std::generic_category(), "descriptor of the program");
    close(kProgram);
  }

  [[nodiscard]] int Program() const { return program_; }
  [[nodiscard]] std::vector<std::string> Directories() const {
    std::vector<std::string> directories;
    for (const SocketFile& file : files_) {
      const std::string parent = std::filesystem::path(file.path).parent_path().string();
      directories.push_back(parent.empty() ? "." : parent);
    }
    return directories;
  }

  // Returns at the end of the reader.
  void Run() {
    bool closed = false;
    while (!closed) {
      const auto message = control_.Receive(Channel::Descriptors::kAccept, Channel::Wait::kForever, closed);
      if (!message) continue;
      const auto order = FromBytes<Order>(message->Bytes());
      if (!order) continue;
      const Answer answer =
          *order == Order::kStart ? Start(message->descriptor.get()) : Stop(*order == Order::kStopAndRefuse);
      closed = control_.Send(AsBytes(answer), -1, Channel::Wait::kForever) == Channel::Sent::kClosed;
    }
    // At once: a service manager may kill this process soon after the reader has ended.
    for (const SocketFile& file : files_) file.Remove();
    Stop(false);
  }

 private:
  Answer Start(int channel) {
    Stop(false);
    if (std::exchange(refusing_, false)) {
      for (const int socket : sockets_) listen(socket, SOMAXCONN);
    }
    std::vector<int> descriptors{channel};
    descriptors.insert(descriptors.end(), sockets_.begin(), sockets_.end());
    try {
      front_ = Spawn(program_, {kProgramName, kFrontCommand}, descriptors);
      return *front_;
    } catch (const std::system_error& error) {
      return -error.code().value();
    }
  }

  Answer Stop(bool refuse) {
    int status = 0;
    if (front_) {
      status = End(*front_, kEndPatience);
      front_.reset();
    }
    // Ends the connections that wait, and refuses new ones. Unix sockets can't be reopened after a shutdown.
    if (refuse && !std::exchange(refusing_, true)) {
      for (const int socket : sockets_) {
        if (Domain(socket) != AF_UNIX) shutdown(socket, SHUT_RD);
      }
    }
    return status;
  }

  const Channel control_{procfs::FileDescriptor(kControl)};
  int program_ = -1;
  std::vector<int> sockets_;
  std::vector<SocketFile> files_;
  bool refusing_ = false;
  std::optional<pid_t> front_;
};

// The program that this process runs, also after its file was replaced. It is above the descriptors of the launcher.
procfs::FileDescriptor OpenOwnProgram(size_t sockets) {
  const procfs::FileDescriptor program(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  procfs::FileDescriptor above(fcntl(program.get(), F_DUPFD_CLOEXEC, kSockets + static_cast<int>(sockets)));
  if (!above.valid()) throw std::system_error(errno, std::generic_category(), "/proc/self/exe");
  return above;
}

}  // namespace

Launcher::Launcher(std::vector<ListenSocket>& sockets, SandboxMode sandbox)
    : Launcher(Channel::MakePair(), sockets, sandbox) {}

Launcher::Launcher(std::pair<Channel, Channel> ends, std::vector<ListenSocket>& sockets, SandboxMode sandbox)
    : control_(std::move(ends.first)) {
  const procfs::FileDescriptor program = OpenOwnProgram(sockets.size());
  std::vector<int> descriptors{ends.second.Descriptor(), program.get()};
  std::string at_end;
  for (const ListenSocket& socket : sockets) {
    descriptors.push_back(socket.Descriptor());
    at_end += socket.OwnsFile() ? kRemove : kKeep;
  }
  pid_ = Spawn(program.get(), {kProgramName, kLauncherCommand, std::to_string(static_cast<int>(sandbox)), at_end},
               descriptors);
  for (ListenSocket& socket : sockets) socket.HandOver();
  control_.SetTimeout(kPatience);
}

void Launcher::End() {
  if (pid_ < 0) return;
  shutdown(control_.Descriptor(), SHUT_RDWR);
  WaitFor(std::exchange(pid_, -1));
}

pid_t Launcher::StartFront(const Channel& channel) {
  const Answer answer = Ask(control_, Order::kStart, channel.Descriptor());
  if (answer < 0) throw std::system_error(-answer, std::generic_category(), "cannot start a front");
  return answer;
}

int Launcher::StopFront(bool refuse) { return Ask(control_, refuse ? Order::kStopAndRefuse : Order::kStop, -1); }

int RunLauncher(const std::vector<std::string>& arguments) {
  try {
    if (arguments.size() != 2) throw std::runtime_error("the exporter itself starts its launcher");
    prctl(PR_SET_NAME, "cow_launcher");
    Process process(arguments[1].size(), arguments[1]);
    DropAllCapabilities();
    ConfineLauncher(static_cast<SandboxMode>(std::stoi(arguments[0])), process.Program(), process.Directories());
    process.Run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_exporter launcher: %s\n", error.what());
    return 1;
  }
}

}  // namespace cow::exporter

#include "collectors/netlink/proc_events.h"

#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "collectors/netlink/socket.h"
#include "collectors/procfs/root.h"

namespace cow::netlink {
namespace {

constexpr const char* kConnector = "proc connector";
constexpr uint32_t kRequest = 0x636f77;

// The enumeration of event types. Kernel headers before 6.6 declare it inside `proc_event`, later ones outside. The
// type of the field is the same in both.
using What = decltype(proc_event::what);

Error ConnectorError(int code) {
  ErrorKind kind = ErrorKind::kIo;
  if (code == -NLE_PERM || code == -NLE_NOACCESS) kind = ErrorKind::kDenied;
  // libnl maps ECONNREFUSED to NLE_FAILURE: the kernel has no listener.
  if (code == -NLE_FAILURE || code == -NLE_PROTO_MISMATCH || code == -NLE_AF_NOSUPPORT) kind = ErrorKind::kGone;
  return {kind, kConnector, 0, nl_geterror(code)};
}

// Returns the field at `offset` of the event.
template <class T>
T FieldAt(std::span<const std::byte> event, size_t offset) {
  T value{};
  std::memcpy(&value, event.data() + offset, sizeof(value));
  return value;
}

ProcMessage DecodeEvent(std::span<const std::byte> event) {
  ProcMessage message;
  const auto pid_at = [event](size_t offset) { return FieldAt<pid_t>(event, offset); };
  const auto add_leader = [&message](ProcEvent::Kind kind, pid_t thread, pid_t process) {
    if (thread == process) message.event = ProcEvent{kind, process, 0};
  };
  switch (FieldAt<uint32_t>(event, offsetof(proc_event, what))) {
    case What::PROC_EVENT_FORK:
      add_leader(ProcEvent::Kind::kFork, pid_at(offsetof(proc_event, event_data.fork.child_pid)),
                 pid_at(offsetof(proc_event, event_data.fork.child_tgid)));
      if (message.event) message.event->parent = pid_at(offsetof(proc_event, event_data.fork.parent_tgid));
      break;
    case What::PROC_EVENT_EXEC:
      message.event = ProcEvent{ProcEvent::Kind::kExec, pid_at(offsetof(proc_event, event_data.exec.process_tgid)), 0};
      break;
    case What::PROC_EVENT_EXIT:
      add_leader(ProcEvent::Kind::kExit, pid_at(offsetof(proc_event, event_data.exit.process_pid)),
                 pid_at(offsetof(proc_event, event_data.exit.process_tgid)));
      break;
    default:
      break;
  }
  return message;
}

class KernelProcEvents final : public ProcEvents {
 public:
  explicit KernelProcEvents(Socket socket) : socket_(std::move(socket)) {
    nl_socket_disable_auto_ack(socket_.get());
    nl_socket_disable_seq_check(socket_.get());
    nl_socket_disable_msg_peek(socket_.get());
    nl_socket_set_nonblocking(socket_.get());
    // The kernel's messages have the type NLMSG_DONE, so libnl never passes them to NL_CB_VALID.
    nl_socket_modify_cb(socket_.get(), NL_CB_MSG_IN, NL_CB_CUSTOM, &KernelProcEvents::OnMessage, this);
  }
  // The socket may stay open, so this ends the events.
  ~KernelProcEvents() override {
    static_cast<void>(Send(PROC_CN_MCAST_IGNORE));
    static_cast<void>(nl_socket_drop_memberships(socket_.get(), CN_IDX_PROC, 0));
  }
  KernelProcEvents(const KernelProcEvents&) = delete;
  KernelProcEvents& operator=(const KernelProcEvents&) = delete;

  // The kernel answers before the send call returns. Outside of the initial namespaces it does not answer.
  Result<void> Listen() {
    if (const int code = Send(PROC_CN_MCAST_LISTEN); code < 0) return tl::unexpected(ConnectorError(code));
    std::vector<ProcEvent> early;
    Take(early);
    if (!answer_) return tl::unexpected(Error{ErrorKind::kDenied, kConnector, 0, "the kernel did not answer"});
    if (answer_->error_number != 0) return tl::unexpected(Error::FromErrno(kConnector, answer_->error_number));
    return {};
  }

  bool Take(std::vector<ProcEvent>& events) override {
    events_ = &events;
    complete_ = true;
    const bool received = ReceiveWaiting(socket_.get());
    events_ = nullptr;
    return received && complete_;
  }

 private:
  // C code calls this function, so it must not throw.
  static int OnMessage(nl_msg* message, void* self) noexcept {
    auto* events = static_cast<KernelProcEvents*>(self);
    try {
      if (nlmsg_get_src(message)->nl_pid == 0) {
        const nlmsghdr* header = nlmsg_hdr(message);
        events->Add({static_cast<const std::byte*>(nlmsg_data(header)), static_cast<size_t>(nlmsg_datalen(header))});
      }
    } catch (const std::bad_alloc&) {
      events->complete_ = false;
    }
    return NL_SKIP;
  }

  void Add(std::span<const std::byte> bytes) {
    const auto message = DecodeProcMessage(bytes);
    if (!message) return;
    if (message->event && events_ != nullptr) events_->push_back(*message->event);
    if (message->answer && message->answer->request == kRequest) answer_ = message->answer;
  }

  int Send(proc_cn_mcast_op operation) {
    cn_msg head{};
    head.id = {CN_IDX_PROC, CN_VAL_PROC};
    head.ack = kRequest;  // the answer holds this number plus one, but not the sequence number
    head.len = sizeof(operation);
    std::array<std::byte, sizeof(head) + sizeof(operation)> request{};
    std::memcpy(request.data(), &head, sizeof(head));
    std::memcpy(request.data() + sizeof(head), &operation, sizeof(operation));
    return nl_send_simple(socket_.get(), NLMSG_DONE, 0, request.data(), request.size());
  }

  Socket socket_;
  std::vector<ProcEvent>* events_ = nullptr;
  bool complete_ = true;  // the current Take lost no event
  std::optional<ProcAnswer> answer_;
};

}  // namespace

Result<ProcMessage> DecodeProcMessage(std::span<const std::byte> bytes) {
  cn_msg head{};
  if (bytes.size() < sizeof(head)) return tl::unexpected(Error::Malformed(kConnector, "truncated message"));
  std::memcpy(&head, bytes.data(), sizeof(head));
  if (head.id.idx != CN_IDX_PROC || head.id.val != CN_VAL_PROC) return ProcMessage();
  const auto event = bytes.subspan(sizeof(head));
  // Later kernels append fields to the pids of an exit.
  constexpr size_t kNeeded = offsetof(proc_event, event_data) + sizeof(proc_event::event_data.fork);
  if (event.size() < kNeeded) return tl::unexpected(Error::Malformed(kConnector, "truncated event"));
  if (FieldAt<uint32_t>(event, offsetof(proc_event, what)) != What::PROC_EVENT_NONE) return DecodeEvent(event);
  ProcMessage message;
  message.answer = ProcAnswer{head.ack - 1, FieldAt<int>(event, offsetof(proc_event, event_data.ack.err))};
  return message;
}

Result<std::unique_ptr<ProcEvents>> OpenProcEvents(const procfs::Root& root, int room_bytes) {
  GivenSockets none;
  return OpenProcEvents(root, room_bytes, none);
}

Result<std::unique_ptr<ProcEvents>> OpenProcEvents(const procfs::Root& root, int room_bytes, GivenSockets& given) {
  if (const auto own = procfs::RequireOwnPids(root); !own) return tl::unexpected(own.error());
  Socket socket(nl_socket_alloc());
  if (!socket) return tl::unexpected(ConnectorError(-NLE_NOMEM));
  if (const int code = Connect(socket.get(), NETLINK_CONNECTOR, given); code != 0) {
    return tl::unexpected(ConnectorError(code));
  }
  if (const int code = nl_socket_add_memberships(socket.get(), CN_IDX_PROC, 0); code != 0) {
    return tl::unexpected(ConnectorError(code));
  }
  SetRoom(socket.get(), room_bytes);
  auto events = std::make_unique<KernelProcEvents>(std::move(socket));
  if (const auto listening = events->Listen(); !listening) return tl::unexpected(listening.error());
  return events;
}

}  // namespace cow::netlink

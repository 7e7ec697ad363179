#include "collectors/netlink/taskstats.h"

#include <linux/acct.h>
#include <linux/sock_diag.h>
#include <linux/taskstats.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "collectors/netlink/socket.h"
#include "collectors/procfs/root.h"

namespace cow::netlink {

class TaskstatsSockets {
 public:
  explicit TaskstatsSockets(GivenSockets& given) : questions(Connect(given)), reports(Connect(given)) {}

  Result<Socket> questions;
  Result<Socket> reports;

 private:
  static Result<Socket> Connect(GivenSockets& given);
};

namespace {

constexpr const char* kTaskstats = "taskstats";

// The size of version 13. A build against headers with the moved layout fails here.
constexpr size_t kVersion13Bytes = offsetof(taskstats, wpcopy_delay_total) + sizeof(uint64_t);
static_assert(offsetof(taskstats, ac_pid) == 128 && offsetof(taskstats, wpcopy_count) == 400,
              "<linux/taskstats.h> has a layout that differs from most kernels");
constexpr size_t kVersion14Bytes = kVersion13Bytes + 2 * sizeof(uint64_t);

Error Malformed(std::string detail) { return Error::Malformed(kTaskstats, std::move(detail)); }

Error TaskstatsError(int code) {
  const std::string detail = nl_geterror(code);
  switch (-code) {
    case NLE_PERM:
    case NLE_NOACCESS:
    case NLE_INVAL:  // the answer to a registration from outside of the initial user and PID namespaces
      return {ErrorKind::kDenied, kTaskstats, 0, detail};
    case NLE_OBJ_NOTFOUND:
      return {ErrorKind::kGone, kTaskstats, 0, detail};
    default:
      return {ErrorKind::kIo, kTaskstats, 0, detail};
  }
}

// Version 14 has two layouts of different size. Version 15 has only the layout that moved wpcopy_count.
Result<void> CheckLayout(uint16_t version, size_t bytes) {
  const bool good = version == 13
                        ? bytes >= kVersion13Bytes
                        : (version == 14 ? bytes == kVersion14Bytes : version >= 16 && bytes >= kVersion14Bytes);
  if (good) return {};
  return tl::unexpected(Malformed("struct taskstats of version " + std::to_string(version) + " with " +
                                  std::to_string(bytes) + " bytes has no wpcopy_count at a known offset"));
}

Result<taskstats> CopyStruct(std::span<const std::byte> bytes) {
  taskstats stats{};
  if (bytes.size() < sizeof(stats.version)) return tl::unexpected(Malformed("truncated struct taskstats"));
  std::memcpy(&stats.version, bytes.data(), sizeof(stats.version));
  const auto layout = CheckLayout(stats.version, bytes.size());
  if (!layout) return tl::unexpected(layout.error());
  std::memcpy(&stats, bytes.data(), std::min(bytes.size(), sizeof(stats)));
  return stats;
}

TaskStats ToTaskStats(const taskstats& stats) {
  TaskStats task;
  task.pid = static_cast<pid_t>(stats.ac_pid);
  task.process = static_cast<pid_t>(stats.ac_tgid);
  task.parent = static_cast<pid_t>(stats.ac_ppid);
  task.forked_only = (stats.ac_flag & AFORK) != 0;
  task.last_thread = (stats.ac_flag & AGROUP) != 0;
  task.executable = {stats.ac_exe_dev, stats.ac_exe_inode};
  task.begin_seconds = stats.ac_btime64;
  task.copied_pages = stats.wpcopy_count;
  return task;
}

using Attributes = std::array<nlattr*, TASKSTATS_TYPE_MAX + 1>;

std::span<const std::byte> PayloadOf(const nlattr* attribute) {
  return {static_cast<const std::byte*>(nla_data(attribute)), static_cast<size_t>(nla_len(attribute))};
}

// Returns the struct within TASKSTATS_TYPE_AGGR_PID or _TGID.
Result<std::span<const std::byte>> StructIn(nlattr* aggregate) {
  Attributes inner{};
  if (aggregate == nullptr || nla_parse_nested(inner.data(), TASKSTATS_TYPE_MAX, aggregate, nullptr) != 0 ||
      inner[TASKSTATS_TYPE_STATS] == nullptr) {
    return tl::unexpected(Malformed("message without struct taskstats"));
  }
  return PayloadOf(inner[TASKSTATS_TYPE_STATS]);
}

Result<Attributes> ParseAttributes(std::span<const std::byte> bytes) {
  Attributes attributes{};
  // libnl does not write to the attributes, but its parameter is not const.
  auto* head = const_cast<nlattr*>(reinterpret_cast<const nlattr*>(bytes.data()));  // NOLINT
  if (nla_parse(attributes.data(), TASKSTATS_TYPE_MAX, head, static_cast<int>(bytes.size()), nullptr) != 0) {
    return tl::unexpected(Malformed("malformed netlink attributes"));
  }
  return attributes;
}

struct MessageFreer {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, MessageFreer>;

Result<Message> NewQuestion(int family) {
  Message message(nlmsg_alloc());
  if (!message || genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, TASKSTATS_CMD_GET,
                              TASKSTATS_GENL_VERSION) == nullptr) {
    return tl::unexpected(TaskstatsError(-NLE_NOMEM));
  }
  return message;
}

std::span<const std::byte> AttributesOf(nl_msg* message) {
  auto* header = static_cast<genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
  return {reinterpret_cast<const std::byte*>(genlmsg_attrdata(header, 0)),
          static_cast<size_t>(genlmsg_attrlen(header, 0))};
}

class KernelTaskstats final : public Taskstats {
 public:
  // Both sockets must be open.
  KernelTaskstats(procfs::Root root, int family, std::shared_ptr<TaskstatsSockets> sockets)
      : root_(std::move(root)),
        family_(family),
        sockets_(std::move(sockets)),
        questions_(sockets_->questions->get()),
        reports_(sockets_->reports->get()) {
    nl_socket_modify_cb(questions_, NL_CB_VALID, NL_CB_CUSTOM, &KernelTaskstats::OnAnswer, this);
    nl_socket_modify_cb(reports_, NL_CB_VALID, NL_CB_CUSTOM, &KernelTaskstats::OnReport, this);
    // The kernel numbers reports per CPU, so libnl's check would fail.
    nl_socket_disable_seq_check(reports_);
    nl_socket_set_nonblocking(reports_);
  }
  // The sockets may stay open, so this ends the reports and empties the buffer.
  ~KernelTaskstats() override {
    try {
      if (const auto question = NewMaskQuestion(TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK)) {
        static_cast<void>(nl_send_auto(reports_, question->get()));
      }
      std::vector<TaskEnd> late;
      TakeEnds(late);
    } catch (const std::bad_alloc&) {  // the next user of the sockets discards what is left
    }
  }
  KernelTaskstats(const KernelTaskstats&) = delete;
  KernelTaskstats& operator=(const KernelTaskstats&) = delete;

  // Asks the kernel for reports from all CPUs. Fails if the kernel refuses.
  Result<void> Register(int room_bytes) {
    SetRoom(reports_, room_bytes);
    const auto question = NewMaskQuestion(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK);
    if (!question) return tl::unexpected(question.error());
    nlmsg_hdr(question->get())->nlmsg_flags |= NLM_F_ACK;
    if (const int code = nl_send_auto(reports_, question->get()); code < 0) {
      return tl::unexpected(TaskstatsError(code));
    }
    // The kernel answers before the send call returns. A report may precede the answer.
    bool acknowledged = false;
    nl_socket_modify_cb(
        reports_, NL_CB_ACK, NL_CB_CUSTOM,
        [](nl_msg* /*message*/, void* argument) -> int {
          *static_cast<bool*>(argument) = true;
          return NL_OK;
        },
        &acknowledged);
    std::vector<TaskEnd> early;
    ends_ = &early;
    int code = 0;
    while (!acknowledged && code == 0) code = nl_recvmsgs_default(reports_);
    ends_ = nullptr;
    nl_socket_modify_cb(reports_, NL_CB_ACK, NL_CB_DEFAULT, nullptr, nullptr);
    if (code != 0) return tl::unexpected(TaskstatsError(code));
    drops_ = Drops().value_or(0);
    return {};
  }

  // The kernel accepts listeners of any network namespace but sends reports to the initial one only. This function ends
  // a thread to see whether its report arrives.
  Result<void> RequireReports() {
    constexpr int kMilliseconds = 1000;  // ample: the kernel sends the report before the thread's end is visible
    std::thread([] {}).join();
    pollfd reports{nl_socket_get_fd(reports_), POLLIN, 0};
    if (poll(&reports, 1, kMilliseconds) > 0) return {};
    return tl::unexpected(
        Error{ErrorKind::kGone, kTaskstats, 0, "the kernel sends no reports to this network namespace"});
  }

  bool AccountingIsOn() override {
    const auto text = procfs::ReadTextFile(root_, root_.ProcPath("sys/kernel/task_delayacct"));
    return text && text->starts_with('1');
  }

  Result<uint64_t> CopiedPages(pid_t process) override {
    return Ask(TASKSTATS_CMD_ATTR_TGID, TASKSTATS_TYPE_AGGR_TGID, process).map([](const taskstats& stats) {
      return static_cast<uint64_t>(stats.wpcopy_count);
    });
  }

  Result<TaskStats> FirstThread(pid_t process) override {
    return Ask(TASKSTATS_CMD_ATTR_PID, TASKSTATS_TYPE_AGGR_PID, process).map(&ToTaskStats);
  }

  void TakeEnds(std::vector<TaskEnd>& ends) override {
    ends_ = &ends;
    ReceiveWaiting(reports_);  // CountLost counts what was lost
    ends_ = nullptr;
    CountLost();
  }

  uint64_t lost() const override { return lost_; }

 private:
  // C code calls these two functions, so they must not throw.
  static int OnReport(nl_msg* message, void* self) noexcept {
    auto* stats = static_cast<KernelTaskstats*>(self);
    try {
      auto end = DecodeTaskEnd(AttributesOf(message));
      if (end && stats->ends_ != nullptr) stats->ends_->push_back(*end);
    } catch (const std::bad_alloc&) {
      ++stats->lost_;
    }
    return NL_OK;
  }

  static int OnAnswer(nl_msg* message, void* self) noexcept {
    auto* stats = static_cast<KernelTaskstats*>(self);
    try {
      stats->answer_ = stats->DecodeAnswer(AttributesOf(message));
    } catch (const std::bad_alloc&) {  // answer_ remains the error that Ask put there
    }
    return NL_OK;
  }

  Result<taskstats> DecodeAnswer(std::span<const std::byte> bytes) const {
    const auto attributes = ParseAttributes(bytes);
    if (!attributes) return tl::unexpected(attributes.error());
    return StructIn(attributes->at(expected_)).and_then(&CopyStruct);
  }

  Result<taskstats> Ask(int attribute, size_t expected, pid_t pid) {
    const auto question = NewQuestion(family_);
    if (!question) return tl::unexpected(question.error());
    nla_put_u32(question->get(), attribute, static_cast<uint32_t>(pid));
    expected_ = expected;
    answer_ = tl::unexpected(Malformed("the kernel did not answer"));
    int code = nl_send_auto(questions_, question->get());
    if (code >= 0) code = nl_recvmsgs_default(questions_);
    if (code < 0) {
      // The kernel answers EINVAL or ESRCH if there is no such process.
      const bool gone = code == -NLE_OBJ_NOTFOUND || code == -NLE_INVAL;
      return tl::unexpected(gone ? Error{ErrorKind::kGone, kTaskstats, 0, nl_geterror(code)} : TaskstatsError(code));
    }
    return answer_;
  }

  // A message to start or to end the reports from all CPUs.
  Result<Message> NewMaskQuestion(int attribute) const {
    const auto cpus = procfs::ReadTextFile(root_, root_.SysPath("devices/system/cpu/possible"));
    if (!cpus) return tl::unexpected(cpus.error());
    auto question = NewQuestion(family_);
    if (!question) return question;
    const std::string mask = cpus->substr(0, cpus->find('\n'));
    nla_put_string(question->get(), attribute, mask.c_str());
    return question;
  }

  // The reports that the kernel has dropped since the socket was opened, in 32 bits.
  std::optional<uint32_t> Drops() const {
    std::array<uint32_t, SK_MEMINFO_VARS> info{};
    socklen_t bytes = sizeof(info);
    if (getsockopt(nl_socket_get_fd(reports_), SOL_SOCKET, SO_MEMINFO, info.data(), &bytes) != 0) return std::nullopt;
    return info[SK_MEMINFO_DROPS];
  }

  // Adds the reports dropped since the last call.
  void CountLost() {
    const auto drops = Drops();
    if (!drops) return;
    lost_ += *drops - drops_;
    drops_ = *drops;
  }

  procfs::Root root_;
  int family_;
  std::shared_ptr<TaskstatsSockets> sockets_;
  nl_sock* questions_;
  nl_sock* reports_;
  size_t expected_ = 0;
  Result<taskstats> answer_;
  std::vector<TaskEnd>* ends_ = nullptr;
  uint32_t drops_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace

Result<Socket> TaskstatsSockets::Connect(GivenSockets& given) {
  Socket socket(nl_socket_alloc());
  if (!socket) return tl::unexpected(TaskstatsError(-NLE_NOMEM));
  if (const int code = netlink::Connect(socket.get(), NETLINK_GENERIC, given); code != 0) {
    return tl::unexpected(TaskstatsError(code));
  }
  nl_socket_disable_auto_ack(socket.get());
  nl_socket_disable_msg_peek(socket.get());
  return socket;
}

std::shared_ptr<TaskstatsSockets> OpenTaskstatsSockets(GivenSockets& given) {
  return std::make_shared<TaskstatsSockets>(given);
}

std::shared_ptr<TaskstatsSockets> OpenTaskstatsSockets() {
  GivenSockets none;
  return OpenTaskstatsSockets(none);
}

Result<TaskStats> DecodeTaskStats(std::span<const std::byte> bytes) { return CopyStruct(bytes).map(&ToTaskStats); }

Result<TaskEnd> DecodeTaskEnd(std::span<const std::byte> bytes) {
  const auto attributes = ParseAttributes(bytes);
  if (!attributes) return tl::unexpected(attributes.error());
  const auto task = StructIn(attributes->at(TASKSTATS_TYPE_AGGR_PID)).and_then(&DecodeTaskStats);
  if (!task) return tl::unexpected(task.error());
  TaskEnd end{*task, std::nullopt};
  if (nlattr* aggregate = attributes->at(TASKSTATS_TYPE_AGGR_TGID); aggregate != nullptr) {
    const auto whole = StructIn(aggregate);
    if (!whole) return tl::unexpected(whole.error());
    // The kernel sets no version in this struct. Its layout is that of the task's struct.
    if (whole->size() < kVersion13Bytes) return tl::unexpected(Malformed("truncated struct taskstats of the process"));
    uint64_t copied = 0;
    std::memcpy(&copied, whole->data() + offsetof(taskstats, wpcopy_count), sizeof(copied));
    end.process_copied_pages = copied;
  }
  return end;
}

Result<std::unique_ptr<Taskstats>> OpenTaskstats(const procfs::Root& root, std::shared_ptr<TaskstatsSockets> sockets,
                                                 int room_bytes) {
  if (const auto own = procfs::RequireOwnPids(root); !own) return tl::unexpected(own.error());
  if (!sockets->questions) return tl::unexpected(sockets->questions.error());
  if (!sockets->reports) return tl::unexpected(sockets->reports.error());
  const int family = genl_ctrl_resolve(sockets->questions->get(), TASKSTATS_GENL_NAME);
  if (family < 0) return tl::unexpected(TaskstatsError(family));
  auto opened = std::make_unique<KernelTaskstats>(root, family, std::move(sockets));
  // Checks the permission to ask, and the layout of the answer.
  if (const auto copied = opened->CopiedPages(getpid()); !copied) return tl::unexpected(copied.error());
  if (const auto registered = opened->Register(room_bytes); !registered) return tl::unexpected(registered.error());
  if (const auto reported = opened->RequireReports(); !reported) return tl::unexpected(reported.error());
  return opened;
}

}  // namespace cow::netlink

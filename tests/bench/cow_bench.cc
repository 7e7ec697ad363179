// The reading program of the benchmark. Commands (commands.h) answer CPU time of this process in nanoseconds, except as
// noted:
//
//   family ADDRESS BYTES PID…  sets the processes to read, and their heap
//   read READER                reads once (readers.h); answers the time
//   loop READER MILLISECONDS   reads repeatedly for this time; answers the number of reads
//   scrape PORT CLIENTS MILLISECONDS
//                              scrapes with this many concurrent clients; answers "SCRAPES BODY-BYTES P50 P99 MAX", the
//                              last three in nanoseconds of wall time
//   publish GROUPS ROUNDS      publishes made-up metrics (publishing.h); answers "TEXT-BYTES RENDER WRITE", the least
//   CPU
//                              time of a round
#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/commands.h"
#include "tests/bench/publishing.h"
#include "tests/bench/readers.h"
#include "tests/bench/scrape_clients.h"

namespace cow::bench {
namespace {

std::string SetFamily(Readers& readers, std::istream& words) {
  const auto address = Take<uint64_t>(words);
  const auto bytes = Take<uint64_t>(words);
  std::vector<pid_t> pids;
  for (pid_t pid = 0; words >> pid;) pids.push_back(pid);
  readers.SetFamily(address, bytes, std::move(pids));
  return "";
}

std::string ReadOnce(Readers& readers, std::istream& words) {
  const auto reader = Take<std::string>(words);
  const std::chrono::nanoseconds begin = CpuTime();
  readers.Read(reader);
  return std::to_string((CpuTime() - begin).count());
}

std::string ReadBackToBack(Readers& readers, std::istream& words) {
  const auto reader = Take<std::string>(words);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(Take<int>(words));
  size_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) readers.Read(reader);
  return std::to_string(count);
}

std::string ScrapeByClients(std::istream& words) {
  const auto port = Take<uint16_t>(words);
  const auto clients = Take<size_t>(words);
  const ScrapeResult result = Scrape(port, clients, std::chrono::milliseconds(Take<int>(words)));
  std::string text = std::to_string(result.scrapes);
  text.append(" ").append(std::to_string(result.body_bytes));
  for (const auto& time : {result.p50, result.p99, result.max}) text.append(" ").append(std::to_string(time.count()));
  return text;
}

std::string PublishInRounds(std::istream& words) {
  const auto groups = Take<size_t>(words);
  const PublishResult result = Publish(groups, Take<size_t>(words));
  return std::to_string(result.text_bytes) + " " + std::to_string(result.render.count()) + " " +
         std::to_string(result.write.count());
}

}  // namespace
}  // namespace cow::bench

int main() {
  using cow::bench::Take;
  cow::bench::Readers readers;
  cow::bench::AnswerCommands([&](std::istream& words) -> std::string {
    const auto command = Take<std::string>(words);
    if (command == "family") return cow::bench::SetFamily(readers, words);
    if (command == "read") return cow::bench::ReadOnce(readers, words);
    if (command == "loop") return cow::bench::ReadBackToBack(readers, words);
    if (command == "scrape") return cow::bench::ScrapeByClients(words);
    if (command == "publish") return cow::bench::PublishInRounds(words);
    throw std::runtime_error("unknown command");
  });
  return 0;
}

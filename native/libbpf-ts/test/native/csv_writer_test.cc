// SPDX-License-Identifier: MIT
// Programs write records on every CPU, the writer's thread makes rows of them, a third thread wants
// all sorts of things meanwhile; then the files are read back and counted. Run under
// ThreadSanitizer.
#include <sched.h>
#include <cstdio>
#include <map>
#include <thread>
#include "csv_rows.h"
#include "stream_object.h"

using libbpf_ts::CsvFile;
using libbpf_ts::CsvWriter;
using libbpf_ts::EventTap;
using libbpf_ts::StreamTable;

namespace {

constexpr uint32_t kStream = StreamObject::kStream;
constexpr uint32_t kPids = 1000;  // a source's pid is that much more than its number

std::string NameOf(uint32_t source) { return "source" + std::to_string(source); }

// A writer with one table in one file.
struct Writing {
  explicit Writing(const StreamObject& object, uint32_t bytes = 1 << 20)
      : path(NextPath()),
        file(Create(path)),
        table(std::make_shared<StreamTable>(StreamObject::Table(), file)) {
    CHECK(!writer.Start());
    writer.Post([file = file, table = table](CsvWriter& of) {
      of.AddFile(file);
      of.dispatch().Bind(kStream, table);
    });
    object.ReadBy(&writer, bytes);
  }

  std::string path;
  std::shared_ptr<CsvFile> file;
  std::shared_ptr<StreamTable> table;
  CsvWriter writer;
};

void Know(const StreamObject& object, uint32_t source) {
  object.Reset(source);
  object.Describe(source, kPids + source, NameOf(source).c_str());
}

// Tells what no loss record could tell any more, and ends the source.
void End(const StreamObject& object, CsvWriter* writer, uint32_t source) {
  uint64_t untold = object.TallyOf(source).untold;
  writer->Post([source, untold](CsvWriter& of) {
    of.Drain();
    of.dispatch().Lost(kStream, source, untold, CsvWriter::Now());
    of.dispatch().End(source, CsvWriter::Now());
  });
}

std::map<uint64_t, Telling> Tell(const std::vector<std::string>& paths) {
  std::map<uint64_t, Telling> tellings;
  for (const std::string& path : paths) {
    for (const Row& row : Rows(path)) {
      CHECK(row.name == NameOf(static_cast<uint32_t>(row.pid - kPids)));
      tellings[row.pid].Hear(row);
    }
  }
  return tellings;
}

// Threads that change the CPU with every run, and a thread with wishes. Rings of this size lose
// records or do not: every one is in a row or in a LOST row, in its place.
void Everything(const StreamObject& object, uint32_t bytes, uint64_t records) {
  constexpr uint32_t kProducers = 3;
  Writing writing(object, bytes);
  std::vector<std::string> paths = {writing.path};
  for (uint32_t source = 1; source <= kProducers; source++) Know(object, source);
  std::atomic<int> running{kProducers};
  std::vector<std::thread> producers;
  for (uint32_t source = 1; source <= kProducers; source++) {
    producers.emplace_back([&object, &running, source, records] {
      for (int run = 0; run < 400; run++) {
        bool wake = run % 8 == 0;
        object.Emit(run, source, records, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
        if (run % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      running.fetch_sub(1);
    });
  }
  std::string text_path = NextPath();
  std::shared_ptr<CsvFile> text = Create(text_path, "a\n");
  writing.writer.Post([text](CsvWriter& of) { of.AddFile(text); });
  uint64_t appended = 0;
  uint64_t tapped = 0;
  for (int wish = 0; running.load() > 0; wish++) {
    if (wish < 100) {
      appended++;
      writing.writer.Post([text](CsvWriter&) { text->Append("a row\n", 1); });
    }
    auto tap = std::make_shared<EventTap>(std::vector<libbpf_ts::Condition>{}, 1000, [] {});
    writing.writer.Post([table = writing.table, tap](CsvWriter&) { table->AddTap(tap); });
    if (wish % 3 == 0) Sync(&writing.writer);
    if (wish % 4 == 2 && paths.size() < 5) {
      paths.push_back(NextPath());
      writing.writer.Post([table = writing.table, old = writing.file,
                           file = writing.file = Create(paths.back())](CsvWriter& of) {
        of.AddFile(file);
        table->Settle(CsvWriter::Now());
        table->MoveTo(file);
        of.CloseFile(old, 0);
      });
    }
    for (const StreamTable::Loss& loss : writing.table->losses()) CHECK(loss.count > 0);
    CHECK(writing.file->figures().problem == 0);
    tapped += tap->Take().bytes.size();
    writing.writer.Post([table = writing.table, tap](CsvWriter&) { table->RemoveTap(tap.get()); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& producer : producers) producer.join();
  for (uint32_t source = 1; source <= kProducers; source++) End(object, &writing.writer, source);
  Sync(&writing.writer);
  std::map<uint64_t, Telling> tellings = Tell(paths);
  std::map<uint64_t, uint64_t> losses;
  for (const StreamTable::Loss& loss : writing.table->losses()) losses[loss.pid] = loss.count;
  CHECK(tellings.size() == kProducers);
  uint64_t lost = 0;
  for (uint32_t source = 1; source <= kProducers; source++) {
    const Telling& telling = tellings[kPids + source];
    Tally tally = object.TallyOf(source);
    CHECK(tally.emitted == 400 * records && telling.next == tally.emitted);
    CHECK(telling.lost == tally.lost && losses[kPids + source] == tally.lost && telling.ended);
    lost += tally.lost;
  }
  CHECK(lost > 0 || bytes > 4096);
  writing.writer.Stop();
  CHECK(Lines(Text(text_path)).size() == appended + 1);
  printf("rings of %u: %lu of %lu lost, %zu files, %lu bytes tapped\n", bytes,
         static_cast<unsigned long>(lost), static_cast<unsigned long>(kProducers * 400 * records),
         paths.size(), static_cast<unsigned long>(tapped));
}

// The name changes between the right rows, whatever CPU says so.
void Identities(const StreamObject& object) {
  Writing writing(object);
  object.Reset(5);
  object.Describe(5, 1, "first");
  constexpr uint64_t kNames = 50;
  for (uint64_t name = 0; name < kNames; name++) {
    if (name > 0) CHECK(object.Identify(1, 5, 100 + name, std::to_string(name).c_str()));
    object.Emit(0, 5, 3);
    object.Emit(static_cast<int>(name), 5, 4);
  }
  Sync(&writing.writer);
  std::vector<Row> rows = Rows(writing.path);
  CHECK(rows.size() == kNames * 7);
  for (const Row& row : rows) {
    uint64_t name = row.sequence / 7;
    CHECK(row.name == (name == 0 ? "first" : std::to_string(name)));
    CHECK(row.pid == (name == 0 ? 1 : 100 + name));
  }
}

// Who it is when no record has told: the map, whoever suggests it, nobody.
void Unknown(const StreamObject& object) {
  Writing writing(object);
  auto next = [&object, &writing](uint32_t source) {
    object.Emit(0, source, 1);
    Sync(&writing.writer);
    Row row = Rows(writing.path).back();
    return std::to_string(row.pid) + " " + row.name;
  };
  auto suggest = [&writing](uint32_t source, uint32_t pid, const char* name) {
    writing.writer.Post([=](CsvWriter& of) { of.dispatch().Suggest(source, pid, name); });
  };
  for (uint32_t source = 6; source <= 9; source++) object.Forget(source);
  object.Describe(6, 60, "in the map");
  CHECK(next(6) == "60 in the map");
  suggest(6, 61, "suggested");
  CHECK(next(6) == "60 in the map");
  object.Describe(6, 62, "renamed");
  CHECK(next(6) == "60 in the map");
  CHECK(object.Lose(1, 6, 1, 0));  // its identity record was lost
  CHECK(next(6) == "62 renamed");
  CHECK(next(7) == "0 ");
  object.Describe(7, 70, "too late");
  suggest(7, 71, "suggested");
  CHECK(next(7) == "71 suggested");
  suggest(7, 72, "again");
  CHECK(next(7) == "71 suggested");
  CHECK(object.Identify(1, 7, 73, "sixteen letters!"));
  CHECK(next(7) == "73 sixteen letters!");
  suggest(8, 80, "beforehand");
  CHECK(next(8) == "80 beforehand");
  // After its end it is another one.
  writing.writer.Post([](CsvWriter& of) { of.dispatch().End(8, CsvWriter::Now()); });
  object.Describe(8, 81, "another");
  CHECK(next(8) == "81 another");
  // Without a table nobody tells of a rename.
  writing.writer.Post([](CsvWriter& of) { of.dispatch().Unbind(kStream); });
  object.Describe(8, 82, "meanwhile");
  writing.writer.Post(
      [table = writing.table](CsvWriter& of) { of.dispatch().Bind(kStream, table); });
  CHECK(next(8) == "82 meanwhile");
}

// Records nobody can read are passed over, wherever they stand; so is a stream without a table.
void Odd(const StreamObject& object) {
  Writing writing(object, 4 << 20);
  Know(object, 10);
  for (int cpu = 0; cpu < 8; cpu++) {
    CHECK(object.Odd(cpu, 10));
    object.Emit(cpu, 10, 5);
    CHECK(object.Odd(cpu, 10));
    CHECK(object.Odd(cpu, 10));
    object.Emit(cpu, 11, 5, 0, kStream + 1);
  }
  End(object, &writing.writer, 10);
  Sync(&writing.writer);
  std::map<uint64_t, Telling> tellings = Tell({writing.path});
  CHECK(tellings.size() == 1 && tellings[kPids + 10].next == 40);
}

// Of this thread and those it makes.
void RunOn(int first_cpu, int end_cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (int cpu = first_cpu; cpu < end_cpu; cpu++) CPU_SET(cpu, &cpus);
  sched_setaffinity(0, sizeof cpus, &cpus);
}

// A record that is not finished holds up what comes after it, on any CPU, and nothing for ever.
void Held(const StreamObject& object, bool discard) {
  // The one CPU is busy with it, and perhaps lets nobody else run.
  RunOn(1, StreamObject::CpuCount());
  Writing writing(object);
  Know(object, 12);
  Know(object, 13);
  object.Emit(0, 12, 1);
  uint64_t until_ns = CsvWriter::Now() + 200000000;
  std::thread holder([&object, until_ns, discard] {
    RunOn(0, 1);
    CHECK(object.Hold(12, until_ns, discard));
  });
  while (object.TallyOf(12).held == 0) std::this_thread::yield();
  object.Emit(1, 13, 10, BPF_RB_FORCE_WAKEUP);
  Sync(&writing.writer);
  CHECK(CsvWriter::Now() >= until_ns);
  holder.join();
  std::vector<Row> rows = Rows(writing.path);
  CHECK(rows.size() == (discard ? 11 : 12));
  CHECK(rows[1].pid == (discard ? kPids + 13 : kPids + 12) && rows[1].sequence == !discard);
  RunOn(0, StreamObject::CpuCount());
}

// Everything that was posted is done, and everything that is in the rings is in the file, whatever
// the writer is at when it is stopped; the next one goes on with the same object.
void StopInEveryState(const StreamObject& object) {
  for (int round = 0; round < 100; round++) {
    Writing writing(object, 64 << 10);
    Know(object, 14);
    if (round % 5 == 1) std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
    object.Emit(round, 14, 200, round % 3 == 0 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
    if (round % 5 == 2) std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
    if (round % 5 == 3) Sync(&writing.writer);
    object.Emit(round + 1, 14, 200);
    if (round % 2 == 0) writing.writer.Post([](CsvWriter& of) { of.Drain(); });
    std::atomic<bool> done{false};
    std::thread other([&writing] {
      for (int i = 0; i < 50; i++) writing.writer.Post([](CsvWriter& of) { of.Flush(); });
    });
    writing.writer.Post([&done](CsvWriter&) { done.store(true); });
    writing.writer.Stop();
    writing.writer.Stop();
    CHECK(done.load());
    other.join();
    std::map<uint64_t, Telling> tellings = Tell({writing.path});
    CHECK(tellings[kPids + 14].next == 400 && tellings[kPids + 14].lost == 0);
    CHECK(writing.file->figures().rows == 400 && writing.file->Room(1) == nullptr);
  }
  CsvWriter never_started;
  CsvWriter idle;
  CHECK(!idle.Start());
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  scratch = argv[1];
  StreamObject object;
  Everything(object, 4096, 100);
  Everything(object, 64 << 10, 300);
  Everything(object, 16 << 20, 100);
  Identities(object);
  Unknown(object);
  Odd(object);
  Held(object, false);
  Held(object, true);
  StopInEveryState(object);
  printf("ok\n");
  return 0;
}

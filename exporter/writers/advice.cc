#include "exporter/writers/advice.h"

#include <algorithm>
#include <array>
#include <initializer_list>

namespace cow::exporter {
namespace {

// Indices of kAdvice.
enum Known : size_t {
  kPythonCollector,
  kPythonCounts,
  kRuby,
  kJemalloc,
  kGlibc,
  kRedisDict,
  kRedisSds,
  kPostgres,
  kAll
};

constexpr std::array<Advice, kAll> kAdvice{{
    {"Python's garbage collector", "gc.freeze() before the fork would keep them shared",
     "python-the-garbage-collector"},
    {"Python's reference counts",
     "each use of an object writes its count; data in arrays, bytes or a file mapping would stay shared",
     "python-reference-counts"},
    {"Ruby's garbage collector",
     "Process.warmup, or GC.start and GC.compact, before the fork would leave it less to write",
     "ruby-marking-and-compaction"},
    {"jemalloc", "it writes its own records when memory is allocated or freed; do less of both after the fork",
     "allocators-jemalloc-and-glibc"},
    {"glibc's malloc",
     "its records lie between the data; freeing less after the fork, or jemalloc, would keep more pages shared",
     "allocators-jemalloc-and-glibc"},
    {"Redis's dictionaries", "clients write while a child saves; save when there are few writes, or on a replica",
     "redis-writes-during-a-save"},
    {"Redis's strings", "clients write while a child saves; save when there are few writes, or on a replica",
     "redis-writes-during-a-save"},
    {"PostgreSQL's caches", "each backend fills caches of its own; a connection pooler needs fewer backends",
     "postgresql-caches-of-each-backend"},
}};

struct Pattern {
  Known known;
  std::initializer_list<std::string_view> objects;    // beginnings of file names
  std::initializer_list<std::string_view> functions;  // names; with '*' at the end: beginnings; empty: all code
};

const std::array<Pattern, kAll> kPatterns{{
    {kPythonCollector,
     {"python3", "libpython3"},
     {"gc_collect_*", "gc_mark_*", "update_refs", "subtract_refs", "visit_decref", "visit_reachable",
      "move_unreachable", "deduce_unreachable", "untrack_tuples", "untrack_dicts"}},
    {kPythonCounts,
     {"python3", "libpython3"},
     {"_PyEval_EvalFrameDefault", "Py_IncRef", "Py_DecRef", "listiter_next", "dictiter_iternext*", "list_subscript",
      "dict_subscript", "PyDict_GetItem*", "_PyDict_GetItem*"}},
    {kRuby,
     {"ruby", "libruby"},
     {"gc_mark*", "gc_sweep*", "gc_compact*", "gc_move*", "gc_aging", "gc_marks*", "rgengc_*", "gc_page_sweep"}},
    {kJemalloc, {"libjemalloc"}, {}},
    {kGlibc,
     {"libc.so", "libc-2"},
     {"_int_malloc", "_int_free*", "_int_realloc", "malloc_consolidate", "unlink_chunk*", "malloc", "free", "calloc",
      "realloc", "cfree", "__libc_malloc*", "__libc_free*", "__libc_calloc*", "__libc_realloc*", "tcache_*"}},
    {kRedisDict,
     {"redis-", "valkey-"},
     {"dbAdd*", "dbOverwrite", "dbSetValue", "dbGenericDelete", "setKey", "dictAdd*", "dictRehash*", "_dictRehash*",
      "dictGenericDelete", "dictDelete", "dictUnlink", "dictReplace", "dictSet*", "dictTwoPhase*", "dictInsert*"}},
    {kRedisSds,
     {"redis-", "valkey-"},
     {"setrangeCommand", "appendCommand", "createEmbeddedStringObject", "sdscat*", "sdsMakeRoom*", "_sdsMakeRoom*",
      "sdsgrowzero", "sdsrange", "sdscpy*"}},
    {kPostgres,
     {"postgres"},
     {"SearchCatCache*", "CatalogCache*", "RelationBuild*", "RelationClear*", "LookupOpclass*", "hash_search*",
      "AllocSet*", "load_relcache*", "CatCache*"}},
}};

// Compilers add suffixes to the names of clones: ".constprop.0", ".cold".
std::string_view WithoutSuffix(std::string_view function) { return function.substr(0, function.find('.')); }

bool IsNamed(std::string_view function, std::string_view pattern) {
  if (pattern.ends_with('*')) return function.starts_with(pattern.substr(0, pattern.size() - 1));
  return function == pattern;
}

bool Fits(const Pattern& pattern, std::string_view object, std::string_view function) {
  const bool is_object = std::any_of(pattern.objects.begin(), pattern.objects.end(),
                                     [object](std::string_view start) { return object.starts_with(start); });
  if (!is_object || pattern.functions.size() == 0) return is_object;
  return std::any_of(pattern.functions.begin(), pattern.functions.end(),
                     [function](std::string_view name) { return IsNamed(function, name); });
}

}  // namespace

const Advice* FindAdvice(const symbols::Symbol& code) {
  if (code.kind != symbols::Symbol::Kind::kUser) return nullptr;
  const std::string_view path = code.object;
  const std::string_view object = path.substr(path.rfind('/') + 1);
  const std::string_view function =
      WithoutSuffix(code.function ? std::string_view(*code.function) : std::string_view());
  for (const Pattern& pattern : kPatterns) {
    if (Fits(pattern, object, function)) return &kAdvice.at(pattern.known);
  }
  return nullptr;
}

std::span<const Advice> AllAdvice() { return kAdvice; }

}  // namespace cow::exporter

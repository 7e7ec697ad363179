# cmake -D SOURCE=DIR -D REVISION=COMMIT -D OUTPUT=FILE -P revision.cmake
# Writes FILE, a header that defines COW_REVISION, if its contents change. The commit is the first of:
#   1. REVISION, if it is not empty
#   2. the commit that `git archive` writes into this file
#   3. HEAD of the repository whose root is DIR; "-modified" follows if tracked files differ from it
#   4. unknown
cmake_minimum_required(VERSION 3.25)

set(archived [[$Format:%H$]])
set(revision "${REVISION}")
if(NOT revision AND archived MATCHES "^[0-9a-f]+$")
  set(revision ${archived})
endif()
if(NOT revision)
  find_program(GIT git)
endif()

function(git output)
  execute_process(COMMAND ${GIT} -C ${SOURCE} ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_QUIET
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT result EQUAL 0)
    set(text)
  endif()
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

# A source tree without a repository may lie inside the repository of another project.
if(NOT revision AND GIT)
  git(top rev-parse --show-toplevel)
  file(REAL_PATH ${SOURCE} source)
  if(top STREQUAL source)
    git(revision rev-parse --verify HEAD)
    git(modified --no-optional-locks status --porcelain --untracked-files=no)
    if(revision AND modified)
      string(APPEND revision -modified)
    endif()
  endif()
endif()
if(NOT revision)
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define COW_REVISION \"${revision}\"\n" @ONLY)
